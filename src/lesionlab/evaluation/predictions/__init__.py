"""The predictions table: opening, aligning, joining to a catalogue."""
