"""Comparing attribution methods where the causes are known."""
