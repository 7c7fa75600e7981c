"""The shared floor: no product's name stands in it."""
