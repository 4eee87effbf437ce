"""Every method equals its plain version, on LoRA weights and on a full fine-tune; and the comparison can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

import oracles_methods as plain
from oracles import (
    before_oracle,
    contrast_oracle,
    errors_oracle,
    expansion_oracle,
    learned_fraction_oracle,
    mean_cosine_oracle,
    pairs_oracle,
    signature_oracle,
)
from whence.methods.base import TurnSet, checked_scores
from whence.methods.gradients.kronecker import sampled_targets
from whence.methods.gradients.parameters import choose_parameters, layout_of, linear_modules
from whence.methods.gradients.projection import PermutedGroups, Rademacher
from whence.methods.lissa import largest_eigenvalue
from whence.methods.registry import make_method, method_names
from whence.methods.text_embedding import load_encoder

RTOL = 1e-8
"""Of float64 sums in another order, relative to the largest score; the dense solves here lose about four digits."""

RTOL_FLOAT32 = 1e-5
"""Of the sentence encoder and of bm25s, which run in float32."""


def close(scores: Tensor, expected: Tensor, rtol: float = RTOL) -> bool:
    scale = float(expected.abs().max())
    return scale > 0 and float((scores.double() - expected.double()).abs().max()) <= rtol * scale


def both(problem, values=None, names=None):
    """Plain gradients of queries and training rows."""
    names = names or problem.names
    return [plain.gradient_rows(problem.loaded, rows.turns, names, values) for rows in (problem.queries, problem.train)]


def tracin(problem) -> Tensor:
    return plain.pairs(*both(problem), plain.tracin)


def tracincp(problem) -> Tensor:
    checkpoints = problem.subject.checkpoints
    return sum(c.learning_rate * plain.pairs(*both(problem, c.weights), plain.tracin) for c in checkpoints)


def tracin_ln(problem) -> Tensor:
    return plain.pairs(*both(problem), plain.tracin_ln)


def gradient_cosine(problem) -> Tensor:
    return plain.pairs(*both(problem), plain.gradient_cosine)


def gradient_norm(problem) -> Tensor:
    _, train = both(problem)
    return plain.flat(train).norm(dim=1).expand(len(problem.queries), -1)


def length(problem) -> Tensor:
    lengths = [float(len(turn.input_ids) - turn.response_start) for turn in problem.train.turns]
    return torch.tensor([lengths] * len(problem.queries))


def random_scores(problem) -> Tensor:
    torch.manual_seed(problem.subject.seed)
    return torch.rand(len(problem.queries), len(problem.train))


def rapidin(problem) -> Tensor:
    """The sketch as a dense matrix: one signed one a row, at the group of the parameter's place."""
    size = sum(problem.loaded.model.get_parameter(name).numel() for name in problem.names)
    sketch = PermutedGroups(size, 64, problem.subject.seed)
    S = torch.zeros(size, 64, dtype=torch.float64)
    for i in range(size):
        S[i, sketch.group[i]] = sketch.sign[i]

    def unit(rows: plain.Rows) -> Tensor:
        flat = [plain.row(rows, i) for i in range(len(next(iter(rows.values()))))]
        return torch.stack([torch.cat([g / g.norm() if g.norm() > 0 else g for g in r.values()]) for r in flat])

    q, t = both(problem)
    return (unit(q) @ S) @ (unit(t) @ S).T


def less(problem) -> Tensor:
    checkpoints = problem.subject.checkpoints
    found = [both(problem, c.weights) for c in checkpoints]
    size = plain.flat(found[0][0]).shape[1]
    P = Rademacher(size, 64, problem.subject.seed).signs(0, size).double() / 8
    return plain.less(
        [q for q, _ in found], [t for _, t in found],
        [c.state for c in checkpoints], [c.learning_rate for c in checkpoints], P,
    )  # fmt: skip


def datainf(problem) -> Tensor:
    return plain.datainf(*both(problem), damping=0.1)


def lissa(problem) -> Tensor:
    def eigenvalue(G: Tensor) -> float:
        return largest_eigenvalue(G, problem.subject.seed)

    return plain.lissa(*both(problem), damping=0.1, iterations=5, eigenvalue=eigenvalue)


def ekfac(problem) -> Tensor:
    modules = trained_linear(problem)
    targets = sampled_targets(problem.loaded, problem.train, seed=problem.subject.seed, max_tokens=64)
    turns = problem.train.turns
    curvature = plain.gradient_rows(problem.loaded, turns, list(modules), targets=targets)
    queries, train = both(problem, names=list(modules))
    return plain.ekfac(problem.loaded, turns, modules, curvature, queries, train, 0.1, targets)


def trained_linear(problem):
    return {name: m for name, m in linear_modules(problem.loaded).items() if name in problem.names}


def signatures(problem, layer: int) -> list[tuple[Tensor, Tensor]]:
    out = []
    for rows in (problem.queries, problem.train):
        found = [signature_oracle(problem.loaded.model, turn, layer)[:2] for turn in rows.turns]
        out.append((torch.stack([h for h, _ in found]), torch.stack([g for _, g in found])))
    return out


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.tensor([[float(plain.cosine(x, y)) for y in b] for x in a], dtype=torch.float64)


def repsim(problem) -> Tensor:
    (h_q, _), (h_t, _) = signatures(problem, problem.loaded.n_layers)
    return cosines(h_q, h_t)


def g_cosine(problem) -> Tensor:
    (_, g_q), (_, g_t) = signatures(problem, problem.loaded.n_layers)
    return cosines(g_q, g_t)


def rept(problem) -> Tensor:
    return cosines(*(torch.cat(pair, dim=1) for pair in signatures(problem, problem.loaded.n_layers)))


def rept_balanced(problem) -> Tensor:
    return (repsim(problem) + g_cosine(problem)) / 2


def rept_centred(problem) -> Tensor:
    return expanded(problem, "rept-centred")


def rept_contrast(problem) -> Tensor:
    return expanded(problem, "rept-contrast", learned=True)


def expanded(problem, form: str, *, learned: bool = False) -> Tensor:
    layer = problem.loaded.n_layers
    query, train = (
        {layer: vectors(problem, rows, layer, contrast=learned)} for rows in (problem.queries, problem.train)
    )
    first, between = (mean_cosine_oracle(side, train, form, layer, layer) for side in (query, train))
    if learned:
        gains = train[layer]["gain"][:, 0].tolist()
        first, between = (learned_fraction_oracle(scores, gains) for scores in (first, between))
    again = expansion_oracle(first, between, weight=2.0, rows=60, least=0.3)
    return torch.tensor(again, dtype=torch.float64)


def vectors(problem, rows: TurnSet, layer: int, *, contrast: bool) -> dict[str, Tensor]:
    """Every vector of every row by the plain procedure."""
    model, found = problem.loaded.model, []
    for turn in rows.turns:
        h, _, H, _, _ = signature_oracle(model, turn, layer)
        E = errors_oracle(model, problem.loaded.tokenizer, turn)
        if problem.subject.base is None:
            with model.disable_adapter():
                before = before_oracle(model, turn, layer)
        else:
            before = before_oracle(problem.subject.base.model, turn, layer)
        after = before_oracle(model, turn, layer)
        dm, _, gain = contrast_oracle(after, before)
        gains = before[1] - after[1] if contrast else None
        found.append(
            {
                "h": h,
                "m": H.mean(0),
                "eh": pairs_oracle(E, H, gains),
                "dm": dm,
                "gain": torch.tensor([gain], dtype=torch.float64),
            }
        )
    return {name: torch.stack([row[name] for row in found]) for name in found[0]}


def text_embedding(problem) -> Tensor:
    tokenizer, model, _ = load_encoder(Path(problem.subject.text_encoder))

    def embedded(rows: TurnSet) -> list[Tensor]:
        found = []
        for turn in rows.turns:
            ids = tokenizer(f"{turn.prompt}\n{turn.response}", return_tensors="pt")["input_ids"]
            found.append(model(input_ids=ids).last_hidden_state[0].mean(dim=0).detach())
        return found

    return cosines(torch.stack(embedded(problem.queries)), torch.stack(embedded(problem.train)))


def bm25(problem) -> Tensor:
    return plain.bm25(problem.queries.prompts, problem.train.prompts)


def bm25_full(problem) -> Tensor:
    queries, train = (
        [f"{turn.prompt} {turn.response}" for turn in rows.turns] for rows in (problem.queries, problem.train)
    )
    return plain.bm25(queries, train)


@dataclass(frozen=True)
class Case:
    oracle: Callable[..., Tensor]
    options: dict[str, object]
    rtol: float = RTOL


CASES = {
    "bm25": Case(bm25, {}, RTOL_FLOAT32),
    "bm25-full": Case(bm25_full, {}, RTOL_FLOAT32),
    "datainf": Case(datainf, {}),
    "ekfac": Case(ekfac, {}),
    "g-cosine": Case(g_cosine, {}),
    "gradient-cosine": Case(gradient_cosine, {}),
    "gradient-norm": Case(gradient_norm, {}),
    "length": Case(length, {}),
    "less": Case(less, {"dim": 64}),
    "lissa": Case(lissa, {"iterations": 5}),
    "random-scores": Case(random_scores, {}),
    "rapidin": Case(rapidin, {"dim": 64}),
    "repsim": Case(repsim, {}),
    "rept": Case(rept, {}),
    "rept-balanced": Case(rept_balanced, {}),
    "rept-centred": Case(rept_centred, {}),
    "rept-contrast": Case(rept_contrast, {}),
    "text-embedding": Case(text_embedding, {}, RTOL_FLOAT32),
    "tracin": Case(tracin, {}),
    "tracin-ln": Case(tracin_ln, {}),
    "tracincp": Case(tracincp, {}),
}


@pytest.fixture(scope="session")
def solved(problem) -> dict[str, tuple[Tensor, Tensor]]:
    """(scores, expected) of every case, computed once."""
    out = {}
    for name, case in CASES.items():
        method = make_method(name, problem.subject, **case.options)
        method.fit(problem.train)
        scores = checked_scores(method.score(problem.queries), method, problem.queries, problem.train)
        out[name] = (scores, case.oracle(problem))
    return out


def test_every_method_has_an_oracle() -> None:
    assert sorted(CASES) == method_names()


@pytest.mark.parametrize("name", sorted(CASES))
def test_equals_the_plain_version(solved, name: str) -> None:
    scores, expected = solved[name]
    assert close(scores, expected, CASES[name].rtol)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_comparison_fails_for_a_flipped_sign_or_permuted_rows(solved, name: str) -> None:
    scores, expected = solved[name]
    moved = torch.roll(torch.arange(scores.shape[1]), 1)
    assert not close(-scores, expected, CASES[name].rtol)
    assert not close(scores[:, moved], expected, CASES[name].rtol)


QUERY_BLIND = {"gradient-norm", "length"}


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_comparison_fails_for_permuted_queries(solved, name: str) -> None:
    scores, expected = solved[name]
    assert close(scores.roll(1, dims=0), expected, CASES[name].rtol) == (name in QUERY_BLIND)


CONTROLS = {"gradient-norm", "length", "random-scores"}


@pytest.mark.parametrize("name", sorted(set(CASES) - CONTROLS))
def test_a_training_row_equal_to_the_query_is_positive_and_first(solved, name: str) -> None:
    scores, _ = solved[name]
    assert scores[0, 4] > 0
    assert scores[0].argmax() == 4


def test_lissa_converges_to_the_exact_inverse(problem) -> None:
    method = make_method("lissa", problem.subject, iterations=3000, damping=20.0)
    method.fit(problem.train)
    expected = plain.fisher_inverse(*both(problem), damping=20.0)
    assert close(method.score(problem.queries), expected)
    other = make_method("lissa", problem.subject, iterations=1, damping=20.0)
    other.fit(problem.train)
    assert not close(other.score(problem.queries), expected)


def test_ekfac_is_exact_where_the_factorisation_is(make_problem, turn) -> None:
    """One prompt token, the same in every row: each weight's input is one vector, and F = a a^T (x) E[s s^T]."""
    rows = TurnSet.of([turn([9, response], 1) for response in range(10, 24)])
    problem = make_problem(("v_proj", "down_proj"))
    queries, train = (
        plain.gradient_rows(problem.loaded, turns, problem.names) for turns in (problem.queries.turns, rows.turns)
    )
    method = make_method("ekfac", problem.subject, fisher="empirical")
    method.fit(rows)
    scores = method.score(problem.queries)
    assert close(scores, plain.fisher_inverse(queries, train, damping=0.1))
    assert not close(scores, plain.datainf(queries, train, damping=0.1))


@pytest.fixture(scope="session")
def exact_ranks(make_problem) -> Callable[[str], float]:
    """Rank correlation of a method's scores with influence by the exact, dense Gauss-Newton matrix; 80 rows."""
    problem = make_problem(("v_proj", "down_proj"), n_train=80)
    queries, train = both(problem)
    exact = plain.gauss_newton_influence(
        problem.loaded, problem.train.turns, problem.names, queries, train, damping=0.1
    )

    def correlation(name: str) -> float:
        method = make_method(name, problem.subject)
        method.fit(problem.train)
        ranks = [
            torch.stack([x.argsort().argsort() for x in rows]).double().flatten()
            for rows in (method.score(problem.queries), exact)
        ]
        return float(torch.corrcoef(torch.stack(ranks))[0, 1])

    return correlation


def test_curvature_brings_rankings_nearer_to_the_exact_influence(exact_ranks) -> None:
    """The better a method's curvature, the better it agrees; measured 0.93, 0.86, 0.79, 0.59 and -0.04."""
    found = [exact_ranks(name) for name in ("ekfac", "lissa", "datainf", "tracin", "random-scores")]
    assert found == sorted(found, reverse=True)
    assert all(value > floor for value, floor in zip(found, (0.9, 0.8, 0.7, 0.5, -0.2), strict=True))
    assert found[-1] < 0.2


def test_layouts_agree_with_the_names_that_were_trained(problem) -> None:
    layout = choose_parameters(problem.loaded, "auto")
    assert layout.names == problem.names
    assert layout_of(problem.loaded, problem.names) == layout
