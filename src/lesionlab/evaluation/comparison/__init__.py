"""Models side by side, paired by lesion."""
