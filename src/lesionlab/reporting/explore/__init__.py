"""Pages on a collection."""
