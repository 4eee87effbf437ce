"""Which rows are flagged as candidate causes, at a false discovery rate, and what else could explain their rank."""
