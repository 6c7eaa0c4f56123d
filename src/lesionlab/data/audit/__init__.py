"""Everything odd about a collection; near-duplicate search."""
