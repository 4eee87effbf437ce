"""Plain, slow versions of what goes down to the words. They define what is correct."""

from __future__ import annotations

from collections.abc import Callable

from oracles import cosine_oracle
from whence.data import Span
from whence.data.examples import EncodedTurn

Rows = list[list[float]]
Score = Callable[[EncodedTurn], float]


def token_map_oracle(G_query: Rows, G_row: Rows) -> Rows:
    """M[i][j], cosine by cosine."""
    return [[cosine_oracle(a, b) for b in G_row] for a in G_query]


def word_map_oracle(tokens: Rows, query_words: list[list[int]], row_words: list[list[int]]) -> Rows:
    """The largest entry over the tokens of both words; 0 where a word has none."""
    return [[max((tokens[i][j] for i in a for j in b), default=0.0) for b in row_words] for a in query_words]


def pool_oracle(tokens: list[Span], scores: list[float], words: list[Span], how: str) -> list[float]:
    """Character by character: each holds its words and its tokens."""
    shares = [[sum(a <= at < b and c <= at < d for at in range(100)) for a, b in tokens] for c, d in words]
    if how == "max":
        return [max((s for s, n in zip(scores, row, strict=True) if n), default=0.0) for row in shares]
    totals = [sum(row[i] for row in shares) for i in range(len(tokens))]
    return [sum(s * n / total for s, n, total in zip(scores, row, totals, strict=True) if n) for row in shares]


def occlusion_oracle(score: Score, turn: EncodedTurn, words: list[list[int]], longest: int) -> list[float]:
    """Each word's mean fall of `score` over the runs of words that hold it, leaving the run's tokens out of a copy."""
    full = score(turn)
    falls: list[list[float]] = [[] for _ in words]
    for length in range(1, longest + 1):
        for start in range(len(words) - length + 1):
            gone = {token for own in words[start : start + length] for token in own}
            ids = [one for i, one in enumerate(turn.input_ids) if i not in gone]
            prompt = sum(i not in gone for i in range(turn.response_start))
            fall = full - score(EncodedTurn(0, tuple(ids), prompt, "", (), "", ""))
            for word in range(start, start + length):
                falls[word].append(fall)
    return [sum(own) / len(own) for own in falls]


def removal_oracle(score: Score, turn: EncodedTurn, words: list[list[int]], first: int) -> list[tuple[int, float]]:
    """Each word in the order of plain greedy search from `first` on, and what share of the score is left without it."""
    whole, gone, order = score(turn), set(words[first]), [first]
    left = [score(_without(turn, gone)) / whole]
    while len(order) < len(words):
        falls = [(score(_without(turn, gone | set(own))), word) for word, own in enumerate(words) if word not in order]
        value, best = min(falls)
        gone |= set(words[best])
        order.append(best)
        left.append(value / whole)
    return list(zip(order, left, strict=True))


def _without(turn: EncodedTurn, gone: set[int]) -> EncodedTurn:
    """A copy without these tokens; of the prompt and of the response the last token stays."""
    start, length = turn.response_start, len(turn.input_ids)
    kept = [
        i
        for i in range(length)
        if i not in gone
        or (i == start - 1 and gone >= set(range(start)))
        or (i == length - 1 and gone >= set(range(start, length)))
    ]
    return EncodedTurn(0, tuple(turn.input_ids[i] for i in kept), sum(i < start for i in kept), "", (), "", "")
