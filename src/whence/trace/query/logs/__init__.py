"""Evaluation logs as queries: one module a tool, each of which recognises its own by what the file holds."""
