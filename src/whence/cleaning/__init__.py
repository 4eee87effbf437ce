"""A data set without some of its rows, in its own format, with all that is needed to put them back."""
