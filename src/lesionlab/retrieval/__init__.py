"""Cases like this one: known images near a new one, with their diagnoses."""
