"""Folders and tables of other people: which files, names and values are in them."""
