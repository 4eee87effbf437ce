"""Plain, slow versions of everything that was made fast. They define what is correct."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import PreTrainedModel

from whence.data.examples import EncodedTurn


def signature_oracle(
    model: PreTrainedModel, turn: EncodedTurn, layer: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """h, g, H and G at the positions that predict a response token, and the loss; one example, no cache, full graph.

    The whole model runs forward and backward with all hidden states kept, as in the paper (method.md, Sample level).
    """
    ids = torch.tensor([turn.input_ids], device=model.device)
    n_layers = model.config.get_text_config().num_hidden_layers
    assert 0 <= layer <= n_layers
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(parameter.is_floating_point())
        output = model(input_ids=ids, output_hidden_states=True, use_cache=False)
        hidden = output.hidden_states[layer]
        hidden.retain_grad()
        predicting = slice(turn.t, turn.t + turn.n_response)
        log_probs = torch.log_softmax(output.logits[0, predicting], dim=-1)
        targets = ids[0, turn.response_start :]
        loss = -log_probs[torch.arange(turn.n_response), targets].mean()
        loss.backward()
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
            parameter.grad = None
    H, G = hidden.detach()[0, predicting], hidden.grad[0, predicting]
    return H[0], G[0], H, G, loss.item()


def cosine_oracle(a: list[float], b: list[float]) -> float:
    """Cosine of two vectors; 0 if either is zero."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    lengths = math.hypot(*a) * math.hypot(*b)
    return dot / lengths if lengths > 0 else 0.0


def score_oracle(
    method: str, query: tuple[Tensor, Tensor], train: tuple[Tensor, Tensor], weight: float = 0.5
) -> list[list[float]]:
    """scores[q][t] of a score form from the raw h and g, each [n, dim], pair by pair."""
    scores = []
    for query_h, query_g in zip(query[0].tolist(), query[1].tolist(), strict=True):
        row = []
        for train_h, train_g in zip(train[0].tolist(), train[1].tolist(), strict=True):
            of_h, of_g = cosine_oracle(query_h, train_h), cosine_oracle(query_g, train_g)
            row.append(
                {
                    "repsim": of_h,
                    "g-cosine": of_g,
                    "rept": cosine_oracle(query_h + query_g, train_h + train_g),
                    "rept-balanced": weight * of_h + (1 - weight) * of_g,
                }[method]
            )
        scores.append(row)
    return scores


States = dict[int, tuple[Tensor, Tensor, Tensor]]
"""h, g and m of n examples by layer, each [n, dim]."""


def centred_oracle(query: States, train: States, h_layer: int, g_layer: int) -> list[list[float]]:
    """scores[q][t] of rept-centred from the raw vectors, pair by pair; means are over the training rows."""

    def less_mean(layer: int, which: int, rows: Tensor) -> list[list[float]]:
        columns = list(zip(*train[layer][which].tolist(), strict=True))
        means = [sum(column) / len(column) for column in columns]
        return [[x - mean for x, mean in zip(row, means, strict=True)] for row in rows.tolist()]

    total = [[0.0] * len(train[h_layer][0]) for _ in range(len(query[h_layer][0]))]
    parts = [(layer, which, weight) for layer in (h_layer, g_layer) for which, weight in ((0, 5 / 16), (2, 2.5 / 16))]
    for layer, which, weight in parts:
        asked, rows = (less_mean(layer, which, side[layer][which]) for side in (query, train))
        for q, one in enumerate(asked):
            for t, other in enumerate(rows):
                total[q][t] += weight * cosine_oracle(one, other)
    for q, one in enumerate(query[g_layer][1].tolist()):
        for t, other in enumerate(train[g_layer][1].tolist()):
            total[q][t] += cosine_oracle(one, other) / 16
    return total


def search_oracle(scores: list[float], keys: list[tuple[int, int]], k: int) -> list[tuple[float, int, int]]:
    """The k best rows of one query as (score, row, turn), by a full sort; keys[i] is the (row, turn) of scores[i]."""
    ranked = sorted(zip(scores, keys, strict=True), key=lambda one: (-one[0], one[1]))
    hits: list[tuple[float, int, int]] = []
    for score, (row, turn) in ranked:
        if row not in [hit[1] for hit in hits]:
            hits.append((score, row, turn))
    return hits[:k]
