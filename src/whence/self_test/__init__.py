"""Does tracing work with this model and these data? Harmless faults, planted, learned and traced: `run.selftest`."""
