"""Faults planted in the user's own rows, on a base of the user's own: planted, fine-tuned, asked, traced, counted."""
