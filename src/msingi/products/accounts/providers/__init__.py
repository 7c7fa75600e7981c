"""Other people's sign-in: which providers there are, how one is led to them, and what they say of who comes back."""
