"""Fine-tuning: the loop, and a run that leaves a folder."""
