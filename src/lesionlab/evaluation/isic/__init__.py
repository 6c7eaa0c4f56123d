"""ISIC challenge files and scores."""
