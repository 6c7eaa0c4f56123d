"""Commands, a file for each topic."""
