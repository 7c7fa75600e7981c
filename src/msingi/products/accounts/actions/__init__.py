"""What may be done with people, with their sessions, and with the keys that sign for them."""
