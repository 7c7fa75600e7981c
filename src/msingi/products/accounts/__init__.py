"""Who is who: accounts, sessions and the keys that sign for them."""
