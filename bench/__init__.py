"""How fast the house is, beside others, in one run."""
