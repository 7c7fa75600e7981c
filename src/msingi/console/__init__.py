"""The web face that ties the products together."""
