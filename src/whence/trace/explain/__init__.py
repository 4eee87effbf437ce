"""Which words of the rows and of the query the match is about, and the phrases that recur in them."""
