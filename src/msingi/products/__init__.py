"""Houses built alike on the kit."""
