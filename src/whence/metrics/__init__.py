"""How good a ranking is, and how often a behaviour shows."""
