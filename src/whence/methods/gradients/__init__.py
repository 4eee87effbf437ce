"""What the parameter-gradient methods share: whose gradients, per-example gradients, sketches, dot products."""
