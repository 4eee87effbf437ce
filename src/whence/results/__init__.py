"""What a trace answers: plain data, the JSON that says it, and which rows a set of results names."""
