"""What is said of every answer."""

NOTICE = (
    "Research and education only. Not a medical device. Not for diagnosis, triage or screening. "
    "See a clinician."
)
"""Printed on every page, card, report and answer."""
