"""Search for better settings, judged on val alone."""
