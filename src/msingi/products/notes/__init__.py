"""A person's own notes: in Markdown, with every save kept."""
