"""Which rows rank highest: one scan of the index, and the best rows read again where words are asked about."""
