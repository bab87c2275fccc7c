"""A run's preference pairs for other tools."""
