"""What an index would cost, from a short probe of the real model on the real data: `planning.plan`."""
