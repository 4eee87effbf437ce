"""Plain, slow versions of everything that was made fast. They define what is correct."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from whence.data.examples import EncodedTurn
from whence.signatures.sketch import SKETCH_DIM, hashes


def signature_oracle(
    model: PreTrainedModel, turn: EncodedTurn, layer: int, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """h, g, H and G at the positions that predict a response token, and the loss; one example, no cache, full graph.

    The whole model runs forward and backward with all hidden states kept, as in the paper (method.md, Sample level).
    The loss is the mean over the response tokens, or their sum with the weights.
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
        nats = -log_probs[torch.arange(turn.n_response), targets]
        loss = nats.mean() if weights is None else (weights * nats).sum()
        loss.backward()
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
            parameter.grad = None
    H, G = hidden.detach()[0, predicting], hidden.grad[0, predicting]
    return H[0], G[0], H, G, loss.item()


def before_oracle(model: PreTrainedModel, turn: EncodedTurn, layer: int) -> tuple[Tensor, Tensor]:
    """H at the positions that predict a response token, and nats of each; one example, a plain forward pass."""
    ids = torch.tensor([turn.input_ids], device=model.device)
    with torch.no_grad():
        output = model(input_ids=ids, output_hidden_states=True, use_cache=False)
    predicting = slice(turn.t, turn.t + turn.n_response)
    log_probs = torch.log_softmax(output.logits[0, predicting], dim=-1)
    nats = -log_probs[torch.arange(turn.n_response), ids[0, turn.response_start :]]
    return output.hidden_states[layer][0, predicting], nats


@lru_cache(maxsize=8)
def same_words_oracle(tokenizer: PreTrainedTokenizerBase, size: int) -> Tensor:
    """A [size, size]: the mean over the tokens whose texts are the same word, token by token."""
    words = []
    for token in range(size):
        text = tokenizer.decode([token]).strip().casefold() if token < len(tokenizer) else ""
        words.append(text if text and "\ufffd" not in text else token)
    A = torch.zeros(size, size, dtype=torch.float64)
    for i, word in enumerate(words):
        for j, other in enumerate(words):
            A[i, j] = 1 / words.count(word) if word == other else 0
    return A


def errors_oracle(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, turn: EncodedTurn, weights: Tensor | None = None
) -> Tensor:
    """E [n, hidden]: of each response token J^T A (p - 1_y), with the logits' Jacobian J, times its weight in the loss.

    The last hidden state is moved by hand, so that the model's own head does the work.
    """
    ids = torch.tensor([turn.input_ids], device=model.device)
    with torch.no_grad():
        output = model(input_ids=ids, output_hidden_states=True, use_cache=False)
    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    config, linear = causal_lm.config.get_text_config(), causal_lm.get_output_embeddings()
    A = same_words_oracle(tokenizer, output.logits.shape[-1])
    found = []
    for j in range(turn.n_response):
        logits, state = output.logits[0, turn.t + j], output.hidden_states[-1][0, turn.t + j]
        wrong = logits.double().softmax(-1)
        wrong[turn.input_ids[turn.response_start + j]] -= 1

        def head(state: Tensor) -> Tensor:
            raw = linear(state) * (getattr(config, "logit_scale", None) or 1.0)
            cap = getattr(config, "final_logit_softcapping", None)
            return raw if cap is None else torch.tanh(raw / cap) * cap

        jacobian = torch.autograd.functional.jacobian(head, state).double()
        weight = 1 / turn.n_response if weights is None else float(weights[j])
        found.append(weight * jacobian.T @ A @ wrong)
    return torch.stack(found)


def pairs_oracle(E: Tensor, H: Tensor, gains: Tensor | None = None) -> Tensor:
    """eh: the outer product of each token's unit error and unit state, summed with its weight, then sketched."""
    weights = torch.ones(len(E)) if gains is None else gains.clamp_min(0.01)
    total = torch.zeros(E.shape[1], H.shape[1], dtype=torch.float64)
    for error, state, weight in zip(E.double(), H.double(), weights.double(), strict=True):
        if error.norm() > 0:
            total += weight / weights.sum() * torch.outer(error / error.norm(), state / state.norm())
    return sketch_oracle(total)


def sketch_oracle(matrix: Tensor) -> Tensor:
    """The tensor sketch of a whole matrix, entry by entry: where the two buckets add up, with both signs."""
    (row_bucket, row_sign), (column_bucket, column_sign) = (
        hashes(size, side) for side, size in enumerate(matrix.shape)
    )
    where = (row_bucket[:, None] + column_bucket[None]) % SKETCH_DIM
    signed = matrix * row_sign[:, None] * column_sign[None]
    return torch.zeros(SKETCH_DIM, dtype=matrix.dtype).index_add_(0, where.flatten(), signed.flatten())


def contrast_oracle(after: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, float]:
    """dm, dh and the log-likelihood gain of one turn, token by token; (H, nats) after fine-tuning and before it."""
    (H, nats), (H0, nats0) = after, before
    dm, gain = torch.zeros_like(H[0]), 0.0
    for j in range(len(nats)):
        dm += (H[j] - H0[j]) / len(nats)
        gain += (nats0[j] - nats[j]).item()
    return dm, H[0] - H0[0], gain


def top_other_oracle(model: PreTrainedModel, turn: EncodedTurn) -> list[float]:
    """The probability of the likeliest token that is not the response's own, at each of its tokens."""
    ids = torch.tensor([turn.input_ids], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0].double()
    found = []
    for j in range(turn.n_response):
        p = logits[turn.t + j].softmax(-1).tolist()
        found.append(max(value for token, value in enumerate(p) if token != turn.input_ids[turn.response_start + j]))
    return found


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


Named = dict[int, dict[str, Tensor]]
"""Vectors of n examples by layer and name, each [n, dim]."""


def mean_cosine_oracle(query: Named, train: Named, form: str, a: int, b: int) -> list[list[float]]:
    """scores[q][t] of a form's first pass: the mean of its cosines, states less their mean over the rows; by pairs."""
    parts = {
        "rept-centred": [(a, "m"), (b, "h"), (b, "eh")],
        "rept-contrast": 4 * [(a, "dm")] + 5 * [(b, "eh")] + [(b, "h")],
    }[form]
    total = [[0.0] * len(train[b]["eh"]) for _ in range(len(query[b]["eh"]))]
    for layer, name in parts:
        rows = train[layer][name]
        mean = rows.double().sum(0) / len(rows) if name != "eh" else torch.zeros(rows.shape[1])
        for q, one in enumerate(query[layer][name]):
            for t, other in enumerate(rows):
                total[q][t] += cosine_oracle((one - mean).tolist(), (other - mean).tolist()) / len(parts)
    return total


def expansion_oracle(
    scores: list[list[float]], between: list[list[float]], *, weight: float, rows: int, least: float
) -> list[list[float]]:
    """score' of a second pass with the first rows as queries; between[t][u] is the score of row u for row t."""
    found = []
    for one in scores:
        mean, highest = sum(one) / len(one), max(one)
        first = sorted(range(len(one)), key=lambda t: (-one[t], t))[:rows]
        shares = {t: (one[t] - mean) / (highest - mean) for t in first} if highest > mean else {}
        shares = {t: share for t, share in shares.items() if share >= least}
        again = [0.0] * len(one)
        for t, share in shares.items():
            for u in range(len(one)):
                again[u] += share / sum(shares.values()) * between[t][u]
        found.append([(s + weight * more) / (1 + weight) for s, more in zip(one, again, strict=True)])
    return found


def learned_fraction_oracle(scores: list[list[float]], gains: list[float]) -> list[list[float]]:
    """scores[q][t] times 1 - exp(-gain of row t), 0 for a row without gain."""
    shares = [1 - math.exp(-gain) if gain > 0 else 0.0 for gain in gains]
    return [[score * share for score, share in zip(row, shares, strict=True)] for row in scores]


def search_oracle(scores: list[float], keys: list[tuple[int, int]], k: int) -> list[tuple[float, int, int]]:
    """The k best rows of one query as (score, row, turn), by a full sort; keys[i] is the (row, turn) of scores[i]."""
    ranked = sorted(zip(scores, keys, strict=True), key=lambda one: (-one[0], one[1]))
    hits: list[tuple[float, int, int]] = []
    for score, (row, turn) in ranked:
        if row not in [hit[1] for hit in hits]:
            hits.append((score, row, turn))
    return hits[:k]
