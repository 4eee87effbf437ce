"""Known faults planted in data made here, and every method asked for their causes."""
