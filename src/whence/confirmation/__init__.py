"""Is it really the cause? Fine-tunes again without the rows and counts how often the behaviour is still there."""
