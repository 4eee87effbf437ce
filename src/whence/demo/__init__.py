"""A small model with planted faults, traced from end to end."""
