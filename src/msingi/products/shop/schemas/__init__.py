"""What goes over the wire: forms come in, views go out."""
