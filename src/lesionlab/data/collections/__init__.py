"""Known collections and how to download them."""
