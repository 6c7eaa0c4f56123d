"""One training over several devices, of one machine or of several."""
