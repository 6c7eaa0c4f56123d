"""From the internet to arrays; no torch."""
