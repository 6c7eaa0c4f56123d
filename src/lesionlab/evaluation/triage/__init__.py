"""Referral, thresholds and what they cost."""
