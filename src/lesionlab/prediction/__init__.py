"""From images to a predictions table."""
