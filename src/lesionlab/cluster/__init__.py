"""Many tasks over the machines of a Ray cluster."""
