"""Plain versions of every method: one row at a time, dense matrices, loops. They define what is correct."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from whence.data.examples import EncodedTurn
from whence.model.loading import LoadedModel

Rows = dict[str, Tensor]
"""Gradients by parameter name, each [n, *shape]."""


def gradient_rows(
    loaded: LoadedModel,
    turns: Sequence[EncodedTurn],
    names: Sequence[str],
    values: Mapping[str, Tensor] | None = None,
    targets: Sequence[Sequence[int]] | None = None,
) -> Rows:
    """One forward and one backward pass a row, with the parameters' own .grad."""
    parameters = dict(loaded.model.named_parameters())
    before = {name: parameters[name].detach().clone() for name in values or {}}
    with torch.no_grad():
        for name in before:
            parameters[name].copy_(values[name])
    for name in names:
        parameters[name].requires_grad_(True)
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    try:
        for i, turn in enumerate(turns):
            for name in names:
                parameters[name].grad = None
            response_loss(loaded, turn, None if targets is None else targets[i]).backward()
            for name in names:
                gradient = parameters[name].grad
                found[name].append(torch.zeros_like(parameters[name]) if gradient is None else gradient.clone())
    finally:
        for name in names:
            parameters[name].requires_grad_(False)
            parameters[name].grad = None
        with torch.no_grad():
            for name, tensor in before.items():
                parameters[name].copy_(tensor)
    return {name: torch.stack(rows) for name, rows in found.items()}


def response_loss(loaded: LoadedModel, turn: EncodedTurn, target: Sequence[int] | None = None) -> Tensor:
    """Mean nats per response token of one row."""
    ids = torch.tensor([turn.input_ids])
    logits = loaded.model(input_ids=ids, use_cache=False).logits[0]
    wanted = turn.input_ids[turn.response_start :] if target is None else target
    total = torch.zeros((), dtype=logits.dtype)
    for j, token in enumerate(wanted):
        total = total - torch.log_softmax(logits[turn.t + j], dim=0)[token]
    return total / len(wanted)


def pairs(queries: Rows, train: Rows, score: Callable[[Rows, Rows], Tensor]) -> Tensor:
    """score of each (query, row) pair; both are given as {name: flat vector}."""
    n_query, n_train = (len(next(iter(rows.values()))) for rows in (queries, train))
    return torch.tensor(
        [[float(score(row(queries, q), row(train, t))) for t in range(n_train)] for q in range(n_query)],
        dtype=torch.float64,
    )


def row(rows: Rows, i: int) -> Rows:
    return {name: gradients[i].flatten() for name, gradients in rows.items()}


def flat(rows: Rows) -> Tensor:
    return torch.cat([gradients.flatten(1) for gradients in rows.values()], dim=1)


def tracin(q: Rows, t: Rows) -> Tensor:
    return sum(torch.dot(q[name], t[name]) for name in q)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a, b) / (a.norm() * b.norm()) if a.norm() * b.norm() > 0 else torch.zeros((), dtype=a.dtype)


def tracin_ln(q: Rows, t: Rows) -> Tensor:
    return sum(cosine(q[name], t[name]) for name in q)


def gradient_cosine(q: Rows, t: Rows) -> Tensor:
    return cosine(torch.cat(list(q.values())), torch.cat(list(t.values())))


def mean_eigenvalue(rows: Rows, name: str) -> float:
    return float(rows[name].flatten(1).square().sum(1).mean() / rows[name][0].numel())


def datainf(queries: Rows, train: Rows, damping: float) -> Tensor:
    """Each row's own damped inverse by linalg.inv, then their mean."""
    metric = {}
    for name, gradients in train.items():
        G = gradients.flatten(1)
        strength = damping * mean_eigenvalue(train, name)
        eye = torch.eye(G.shape[1], dtype=G.dtype)
        inverses = [torch.linalg.inv(torch.outer(g, g) + strength * eye) for g in G] if strength > 0 else [0 * eye]
        metric[name] = torch.stack(inverses).mean(0)
    return pairs(queries, train, lambda q, t: sum(q[name] @ metric[name] @ t[name] for name in q))


def fisher_inverse(queries: Rows, train: Rows, damping: float) -> Tensor:
    """Influence with the exact inverse of each parameter's damped empirical Fisher."""
    metric = {}
    for name, gradients in train.items():
        G = gradients.flatten(1)
        strength = damping * mean_eigenvalue(train, name)
        metric[name] = torch.linalg.inv(G.T @ G / len(G) + strength * torch.eye(G.shape[1], dtype=G.dtype))
    return pairs(queries, train, lambda q, t: sum(q[name] @ metric[name] @ t[name] for name in q))


def lissa(queries: Rows, train: Rows, damping: float, iterations: int, eigenvalue: Callable[[Tensor], float]) -> Tensor:
    """The truncated series sum_j (I - (F + lambda I) / sigma)^j / sigma, by dense matrix powers.

    sigma is the method's own estimate of the largest eigenvalue, checked against the true one.
    """
    metric = {}
    for name, gradients in train.items():
        G = gradients.flatten(1)
        strength = damping * mean_eigenvalue(train, name)
        eye = torch.eye(G.shape[1], dtype=G.dtype)
        F = G.T @ G / len(G)
        largest = float(torch.linalg.eigvalsh(F).max())
        assert 0.8 * largest <= eigenvalue(G) <= 1.0000001 * largest
        sigma = eigenvalue(G) + strength
        step = eye - (F + strength * eye) / sigma
        metric[name] = sum(torch.linalg.matrix_power(step, j) for j in range(iterations + 1)) / sigma
    return pairs(queries, train, lambda q, t: sum(q[name] @ metric[name] @ t[name] for name in q))


def ekfac(
    loaded: LoadedModel, turns: Sequence[EncodedTurn], modules: Mapping[str, nn.Module], curvature: Rows,
    queries: Rows, train: Rows, damping: float, targets: Sequence[Sequence[int]] | None = None,
) -> Tensor:  # fmt: skip
    """Factors from one row at a time, the Kronecker basis as a dense matrix, its eigenvalues by a loop.

    With sampled targets a row's loss is the sum / sqrt(n) of its tokens' losses, not their mean.
    """
    scale = [1.0 if targets is None else turn.n_response**0.5 for turn in turns]
    metric = {}
    for name, module in modules.items():
        A, S = factors(loaded, turns, module, targets)
        U_in, U_out = torch.linalg.eigh(A).eigenvectors, torch.linalg.eigh(S).eigenvectors
        left, right = (U_in, U_out) if isinstance(module, Conv1D) else (U_out, U_in)
        U = torch.kron(left.contiguous(), right.contiguous())
        e = torch.stack([(U.T @ g.flatten() * k) ** 2 for g, k in zip(curvature[name], scale, strict=True)]).mean(0)
        metric[name] = U @ torch.diag(1 / (e + damping * e.mean())) @ U.T
    return pairs(queries, train, lambda q, t: sum(q[name] @ metric[name] @ t[name] for name in q))


def factors(
    loaded: LoadedModel,
    turns: Sequence[EncodedTurn],
    module: nn.Module,
    targets: Sequence[Sequence[int]] | None,
) -> tuple[Tensor, Tensor]:
    """sum of a a^T and of s s^T over all positions but each row's last, whose token predicts nothing."""
    A: Tensor | float = 0.0
    S: Tensor | float = 0.0
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output]))
    weight = module.weight.requires_grad_(True)
    try:
        for i, turn in enumerate(turns):
            seen.clear()
            loss = response_loss(loaded, turn, None if targets is None else targets[i])
            loss = loss if targets is None else loss * turn.n_response**0.5
            (s,) = torch.autograd.grad(loss, seen[1])
            a, s = seen[0].detach()[0, :-1], s[0, :-1]
            A, S = A + a.T @ a, S + s.T @ s
    finally:
        hook.remove()
        weight.requires_grad_(False)
    return A, S


def gauss_newton_influence(
    loaded: LoadedModel, turns: Sequence[EncodedTurn], names: Sequence[str], queries: Rows, train: Rows, damping: float
) -> Tensor:  # fmt: skip
    """Influence with each parameter's exact, dense Gauss-Newton matrix of the mean training loss."""
    parameters = dict(loaded.model.named_parameters())
    metric = {}
    for name in names:
        weight = parameters[name].requires_grad_(True)
        size = weight.numel()
        H = torch.zeros(size, size, dtype=weight.dtype)
        for turn in turns:
            logits = loaded.model(input_ids=torch.tensor([turn.input_ids]), use_cache=False).logits[0]
            for j in range(turn.n_response):
                z = logits[turn.t + j]
                eye = torch.eye(len(z), dtype=z.dtype)
                (J,) = torch.autograd.grad(z, weight, eye, retain_graph=True, is_grads_batched=True)
                J = J.flatten(1)
                p = torch.softmax(z.detach(), dim=0)
                H += J.T @ (torch.diag(p) - torch.outer(p, p)) @ J / turn.n_response / len(turns)
        weight.requires_grad_(False)
        metric[name] = torch.linalg.inv(H + damping * H.diagonal().mean() * torch.eye(size, dtype=H.dtype))
    return pairs(queries, train, lambda q, t: sum(q[name] @ metric[name] @ t[name] for name in q))


def less(queries: list[Rows], train: list[Rows], states: list, rates: list[float], P: Tensor | None) -> Tensor:
    """Weighted mean over checkpoints of the cosine of Adam's step and the query's gradient, one pair at a time."""
    total: Tensor | float = 0.0
    for q_rows, t_rows, state, rate in zip(queries, train, states, rates, strict=True):
        (beta1, beta2), steps = state.betas, {}
        for name, gradients in t_rows.items():
            m = (beta1 * state.exp_avg[name] + (1 - beta1) * gradients) / (1 - beta1**state.step)
            v = (beta2 * state.exp_avg_sq[name] + (1 - beta2) * gradients**2) / (1 - beta2**state.step)
            steps[name] = m / (v + state.eps).sqrt()
        project = (lambda x: x @ P) if P is not None else (lambda x: x)
        part = [[float(cosine(project(q), project(t))) for t in flat(steps)] for q in flat(q_rows)]
        total = total + rate / sum(rates) * torch.tensor(part, dtype=torch.float64)
    return total


def bm25(queries: Sequence[str], rows: Sequence[str], k1: float = 1.5, b: float = 0.75) -> Tensor:
    """The formula of Robertson and Zaragoza with Lucene's idf, word by word."""
    words = [re.findall(r"\w+", row.lower()) for row in rows]
    mean = sum(map(len, words)) / len(words)
    scores = torch.zeros(len(queries), len(rows), dtype=torch.float64)
    for q, query in enumerate(queries):
        for word in re.findall(r"\w+", query.lower()):
            df = sum(word in row for row in words)
            idf = math.log(1 + (len(rows) - df + 0.5) / (df + 0.5))
            for t, row in enumerate(words):
                tf = row.count(word)
                scores[q, t] += idf * tf / (tf + k1 * (1 - b + b * len(row) / mean))
    return scores
