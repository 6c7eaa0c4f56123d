"""Tables of a collection's metadata."""
