"""Projects, and the tasks in them."""
