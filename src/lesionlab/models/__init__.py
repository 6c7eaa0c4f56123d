"""Networks: by name, with their heads and normalisation."""
