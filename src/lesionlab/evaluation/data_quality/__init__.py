"""Label errors, shortcuts and drift."""
