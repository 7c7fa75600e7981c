"""Who may do what: a table for each noun, and test_access.py makes one of them all."""
