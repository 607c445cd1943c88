"""Which channels go, and repairing what is left."""
