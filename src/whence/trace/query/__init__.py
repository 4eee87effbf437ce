"""What is asked: prompts and responses, the words that are asked about, and what both models say of them."""
