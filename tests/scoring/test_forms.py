"""Score forms against plain loops, and what they must not depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles import cosine_oracle, expansion_oracle, learned_fraction_oracle, mean_cosine_oracle, score_oracle
from whence.errors import InputError
from whence.methods.registry import method_class
from whence.scoring.defaults import SCORES, score_form
from whence.scoring.expansion import Expansion
from whence.scoring.forms import Depth, Depths, Read, ScoreForm, form_scores, layer_at
from whence.scoring.representation import CosineMean, rept, rept_balanced
from whence.scoring.vectors import Vectors, to_block, to_vectors
from whence.scoring.versions import VERSIONS
from whence.signatures.types import Signatures

SAME = (3, 3)
FLOAT32_TOLERANCE = 1e-5
"""A dot product of up to 12 float32 unit components, and the rounding of both unit vectors."""
FLOAT64_TOLERANCE = 1e-12


def draw(generator: torch.Generator, n: int, dim: int, scale: float, dtype: torch.dtype) -> Tensor:
    raw = scale * torch.randn(n, dim, generator=generator, dtype=dtype)
    # Rows that are exactly zero are legal: a model that is sure has no gradient.
    return raw * (torch.rand(n, 1, generator=generator) > 0.2)


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(sorted(set(SCORES) - {"rept-centred", "rept-contrast"})),
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 12), st.integers(1, 12)),
    g_scale=st.sampled_from([1e-30, 1e-4, 1.0, 1e3]),
    double=st.booleans(),
)
def test_forms_equal_the_plain_loops(
    method: str, seed: int, shape: tuple[int, int, int, int], g_scale: float, double: bool
) -> None:
    n_query, n_train, dim_h, dim_g = shape
    dtype = torch.float64 if double else torch.float32
    generator = torch.Generator().manual_seed(seed)
    raw = [
        (draw(generator, n, dim_h, 20.0, dtype), draw(generator, n, dim_g, g_scale, dtype)) for n in (n_query, n_train)
    ]
    query, train = (to_block({3: Signatures(*pair)}) for pair in raw)
    form = score_form(method)
    scores = form.function(query, train, form.all_at(3))
    assert scores.dtype == dtype
    assert scores.shape == (n_query, n_train)
    expected = torch.tensor(score_oracle(method, *raw), dtype=dtype)
    tolerance = FLOAT64_TOLERANCE if double else FLOAT32_TOLERANCE
    torch.testing.assert_close(scores, expected, rtol=0, atol=tolerance)


@given(
    name=st.sampled_from(["rept-centred", "rept-contrast"]), seed=st.integers(0, 2**31), n_query=st.integers(1, 4),
    n_train=st.integers(2, 9), rows=st.integers(1, 5), weight=st.floats(0, 4), least=st.floats(0, 1),
    deep=st.sampled_from([1, 2]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_centred_and_contrast_and_their_second_pass_equal_the_plain_loops(
    name: str, seed: int, n_query: int, n_train: int, rows: int, weight: float, least: float, deep: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gain = 3 * torch.randn(n_train, generator=generator, dtype=torch.float64)
    raw = [
        {layer: torch.randn(5, n, 5, generator=generator, dtype=torch.float64) + 3.0 for layer in (1, 2)}
        for n in (n_query, n_train)
    ]
    query, train = ({layer: Signatures(*parts) for layer, parts in side.items()} for side in raw)
    blocks = [to_block(side, means(train)) for side in (query, train)]
    named = [{layer: side[layer].named() for layer in side} for side in (query, train)]
    form, roles = score_form(name), (1, deep, deep)
    first = mean_cosine_oracle(*named, name, 1, deep)
    torch.testing.assert_close(
        form.function(*blocks, roles), torch.tensor(first, dtype=torch.float64), rtol=0, atol=FLOAT64_TOLERANCE
    )
    between = mean_cosine_oracle(named[1], named[1], name, 1, deep)
    if name == "rept-contrast":
        first, between = (learned_fraction_oracle(scores, gain.tolist()) for scores in (first, between))
    expected = expansion_oracle(first, between, weight=weight, rows=rows, least=least)
    again = form_scores(replace(form, expand=Expansion(weight, rows, least)), *blocks, roles, gain)
    torch.testing.assert_close(again, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=10 * FLOAT64_TOLERANCE)


def means(layers: dict[int, Signatures]) -> dict[tuple[int, str], torch.Tensor]:
    """Mean of each vector over the rows, as an index has them."""
    return {
        (layer, name): raw.double().mean(0)
        for layer, signatures in layers.items()
        for name, raw in signatures.named().items()
    }


def block_of(layers: dict[int, Signatures]) -> dict[int, dict[str, Vectors]]:
    """The block with every vector that a form can ask for."""
    return to_block(layers, means(layers))


@given(seed=st.integers(0, 2**31), weight=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_balanced_is_the_cosine_of_weighted_unit_halves(seed: int, weight: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    raw = [Signatures(*torch.randn(2, n, 6, generator=generator, dtype=torch.float64)) for n in (3, 4)]
    query, train = (to_block({3: signatures}) for signatures in raw)
    joined = [
        torch.cat([weight**0.5 * block[3]["h"].unit, (1 - weight) ** 0.5 * block[3]["g"].unit], dim=1)
        for block in (query, train)
    ]
    expected = torch.nn.functional.cosine_similarity(joined[0][:, None], joined[1][None], dim=2)
    torch.testing.assert_close(rept_balanced(query, train, SAME, weight=weight), expected)


def test_rept_is_repsim_when_the_gradient_is_as_small_as_in_real_models() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = [Signatures(50 * torch.randn(9, 8, generator=generator), 3e-3 * torch.randn(9, 8, generator=generator))] * 2
    query, train = (to_block({3: signatures}) for signatures in raw)
    difference = rept(query, train, SAME) - score_form("repsim").function(query, train, (3,))
    assert 0 < difference.abs().max() < 1e-6


def test_h_and_g_are_taken_from_their_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    block = {layer: Signatures(*torch.randn(3, 4, 5, generator=generator)) for layer in (1, 2)}
    mixed = {7: Signatures(h=block[1].h, g=block[2].g)}
    for form in (form for form in SCORES.values() if {read.vector for read in form.needs} == {"h", "g"}):
        apart = form.function(to_block(block), to_block(block), (1, 2))
        together = form.function(to_block(mixed), to_block(mixed), (7, 7))
        assert torch.equal(apart, together)


def test_needs_name_exactly_what_is_read() -> None:
    signatures = Signatures(*torch.randn(5, 4, 5, generator=torch.Generator().manual_seed(0)))
    for form in SCORES.values():
        full = block_of({1: signatures, 2: signatures})
        layers = tuple(1 + number % 2 for number in range(len(form.needs)))
        reads = form.reads(layers)
        thin = {layer: {name: full[layer][name] for at, name in reads if at == layer} for layer in (1, 2)}
        assert torch.equal(form.function(full, thin, layers), form.function(full, full, layers))
        for missing in reads:
            poorer = {
                layer: {name: part for name, part in parts.items() if (layer, name) != missing}
                for layer, parts in thin.items()
            }
            with pytest.raises(KeyError):
                form.function(full, poorer, layers)


@pytest.mark.parametrize(
    ("depth", "layer"),
    [("rule", 4), ("last", 30), (5 / 6, 25), (2 / 3, 20), (1.0, 30), (1 / 1000, 1), (0.05, 2), (0, 0), (7, 7)],
)
def test_a_depth_is_a_rule_that_fits_any_model(depth: Depth, layer: int) -> None:
    assert layer_at(depth, Depths(rule=4, n_layers=30)) == layer


def test_a_form_may_read_as_many_depths_as_it_likes() -> None:
    """The same vector at several layers, others at theirs: each cosine is taken where it is declared."""
    mean = CosineMean(
        (Read("dh", 5 / 6, True), Read("eh", "last"), Read("h", "rule", True), Read("h", 2 / 3, True)),
        (1.0, 1.0, 0.5, 0.5),
    )
    form = ScoreForm("several", "1", mean, mean.reads)
    layers = form.layers(Depths(rule=2, n_layers=30))
    assert layers == (25, 30, 2, 20)
    assert form.vectors(layers) == [(25, "dh"), (30, "eh"), (2, "h"), (20, "h")]
    assert form.described(layers) == "dh:25,eh:30,h:2,h:20"
    assert form.needs_base
    generator = torch.Generator().manual_seed(0)
    sides = [
        {
            25: Signatures(dh=torch.randn(n, 6, generator=generator, dtype=torch.float64)),
            30: Signatures(eh=torch.randn(n, 4, generator=generator, dtype=torch.float64)),
            **{at: Signatures(h=torch.randn(n, 6, generator=generator, dtype=torch.float64)) for at in (2, 20)},
        }
        for n in (2, 5)
    ]
    query, train = sides
    found = form.function(to_block(query, means(train)), to_block(train, means(train)), layers)
    expected = torch.zeros(2, 5, dtype=torch.float64)
    for (layer, name), weight, centred in zip(form.vectors(layers), mean.weights, (1, 0, 1, 1), strict=True):
        rows = train[layer].get(name)
        middle = centred * rows.mean(0)
        for q, one in enumerate(query[layer].get(name) - middle):
            for t, other in enumerate(rows - middle):
                expected[q, t] += weight / 3 * cosine_oracle(one.tolist(), other.tolist())
    torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT64_TOLERANCE)


def test_versions_stand_in_one_place() -> None:
    """A form's version is the one that its method in the bench reports, and every form has one."""
    assert {name: form.version for name, form in SCORES.items()} == dict(VERSIONS)
    assert {name: method_class(name).version for name in VERSIONS} == dict(VERSIONS)


def test_directions_and_lengths_of_tiny_and_zero_vectors() -> None:
    raw = torch.tensor([[3e-30, 4e-30], [0.0, 0.0], [3.0, 4.0]])
    vectors = to_vectors(raw)
    torch.testing.assert_close(vectors.unit, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]]))
    torch.testing.assert_close(vectors.norm, torch.tensor([5e-30, 0.0, 5.0]), rtol=1e-6, atol=0)


def test_unknown_method_and_wrong_weight_are_named() -> None:
    with pytest.raises(InputError, match=r"no method 'repsin'(.|\n)*Did you mean repsim\?"):
        score_form("repsin")
    with pytest.raises(InputError, match=r"Only rept-balanced takes a weight"):
        score_form("repsim", weight=0.2)
    block = to_block({3: Signatures(torch.ones(1, 2), torch.ones(1, 2))})
    with pytest.raises(InputError, match=r"weight = 1\.5"):
        score_form("rept-balanced", weight=1.5).function(block, block, SAME)
    assert score_form("rept-balanced", weight=0.2).version == "1 weight=0.2"


def test_registry_cannot_be_changed_by_accident() -> None:
    assert all(name == form.name for name, form in SCORES.items())
    with pytest.raises(TypeError):
        SCORES["mine"] = SCORES["rept"]  # type: ignore[index]
