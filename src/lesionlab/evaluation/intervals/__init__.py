"""Bootstrap by lesion, intervals and p values."""
