"""How much each word of a prompt drove a score: several answers behind one signature.

    method(comparison, turns, words, score, weights) -> for each turn one number a word, higher drove the score more

Which one is the default was decided by benchmarks/token_quality.py; docs/log.md has the figures.
"""
