"""Payments: providers behind one face, and one truth made of what they say."""
