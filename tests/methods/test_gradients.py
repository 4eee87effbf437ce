"""Batched per-example gradients equal the loop, for families, adapters, checkpoints and any block size."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import oracles_methods as plain
from adapters import make_adapter
from tiny import tiny_model, tiny_tokenizer
from whence.data.examples import EncodedTurn
from whence.errors import ModelError, NonFiniteError, WhenceWarning
from whence.methods import ekfac
from whence.methods.base import Subject, TurnSet
from whence.methods.ekfac import EKFAC
from whence.methods.gradients import kronecker, per_example
from whence.methods.gradients.checkpoints import FolderCheckpoint
from whence.methods.gradients.kronecker import kronecker_bases
from whence.methods.gradients.parameters import (
    choose_parameters,
    linear_modules,
    unit_per_parameter,
    unit_rows,
)
from whence.methods.gradients.per_example import per_example_gradients, row_blocks
from whence.methods.gradients.source import Gradients, dot_scores
from whence.model.loading import LoadedModel

RTOL = 1e-10
"""Float64 sums in another order."""

RTOL_FLOAT32_PARTS = 1e-6
"""Float64 models of families that take norms, rotations or routes in float32 whatever the model's dtype."""

RTOL_FLOAT32 = 2e-3
"""A float32 model, whose oracle is fused attention on one row: rounding through four layers of scaled-up weights."""


def wrapped(family: str, **changes: object) -> LoadedModel:
    return LoadedModel.wrap(tiny_model(family, dtype=torch.float64, **changes), tiny_tokenizer())


def gathered(loaded: LoadedModel, turns, **options: object) -> Tensor:
    layout = choose_parameters(loaded, "auto")
    out = torch.full((len(turns), layout.size), float("nan"), dtype=torch.float64)
    for rows, block in per_example_gradients(loaded, turns, layout, **options):
        assert torch.isnan(out[rows]).all(), "a row came twice"
        out[rows] = block.double()
    return out


def worst(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    "family", ["llama", "qwen3", "gpt2", "gemma2", "gemma3_text", "mistral", "gpt_neox", "mixtral"]
)
def test_equals_the_loop(family: str, some_turns) -> None:
    changes = {"final_logit_softcapping": 500.0} if family == "gemma2" else {}
    loaded = wrapped(family, **changes)
    turns = some_turns(5)
    expected = plain.flat(plain.gradient_rows(loaded, turns, choose_parameters(loaded, "all").names))
    assert expected.abs().max() > 1e-6
    assert worst(gathered(loaded, turns), expected) < RTOL_FLOAT32_PARTS


def test_equals_the_loop_in_float32_and_leaves_the_model_as_it_was(some_turns) -> None:
    loaded = LoadedModel.wrap(tiny_model("llama"), tiny_tokenizer())
    before = {name: p.clone() for name, p in loaded.model.state_dict().items()}
    attention, turns = loaded.model.config._attn_implementation, some_turns(5)
    found = gathered(loaded, turns)
    assert loaded.model.config._attn_implementation == attention
    assert not loaded.model.training
    assert all(not p.requires_grad and p.grad is None for p in loaded.model.parameters())
    assert all(torch.equal(before[name], p) for name, p in loaded.model.state_dict().items())
    expected = plain.flat(plain.gradient_rows(loaded, turns, choose_parameters(loaded, "all").names))
    assert worst(found, expected.double()) < RTOL_FLOAT32


def test_equals_the_loop_for_lora_on_gemma(some_turns, lora) -> None:
    model = lora(tiny_model("gemma2", dtype=torch.float64), ("q_proj", "down_proj"))
    loaded, turns = LoadedModel.wrap(model, tiny_tokenizer()), some_turns(5)
    names = choose_parameters(loaded, "auto").names
    assert len(names) == 4 * 2 * 2
    assert worst(gathered(loaded, turns), plain.flat(plain.gradient_rows(loaded, turns, names))) < RTOL_FLOAT32_PARTS


def test_a_checkpoint_stands_in_for_the_model(problem) -> None:
    checkpoint = problem.subject.checkpoints[0]
    expected = plain.flat(plain.gradient_rows(problem.loaded, problem.train.turns, problem.names, checkpoint.weights))
    now = plain.flat(plain.gradient_rows(problem.loaded, problem.train.turns, problem.names))
    found = Gradients(problem.subject, problem.train, checkpoint).select(range(len(problem.train)))
    assert worst(found, expected) < RTOL
    assert worst(now, expected) > 1e-3


@pytest.mark.parametrize("rows_a_block", [1, 2, 4, 100])
@pytest.mark.parametrize("max_tokens", [1, 20, 4096])
def test_block_size_changes_nothing(problem, rows_a_block: int, max_tokens: int) -> None:
    size = choose_parameters(problem.loaded, "auto").size * 8
    expected = gathered(problem.loaded, problem.train.turns)
    found = gathered(problem.loaded, problem.train.turns, block_bytes=rows_a_block * size, max_tokens=max_tokens)
    assert worst(found, expected) < RTOL


def test_row_blocks_hold_their_bounds(some_turns) -> None:
    turns = some_turns(50)
    blocks = list(row_blocks(turns, bytes_per_row=10, block_bytes=45, max_tokens=24))
    assert sorted(i for block in blocks for i in block) == list(range(50))
    assert max(map(len, blocks)) == 4
    assert all(len(b) == 1 or len(b) * max(len(turns[i].input_ids) for i in b) <= 24 for b in blocks)


def test_scores_do_not_depend_on_what_is_kept(problem) -> None:
    """Nothing kept, blocks of one row, queries in parts of one: the same dot products."""
    small = Subject(problem.loaded, block_bytes=1)
    expected = dot_scores(Gradients(problem.subject, problem.queries), Gradients(problem.subject, problem.train))
    found = dot_scores(Gradients(small, problem.queries), Gradients(small, problem.train))
    assert worst(found, expected) < RTOL


def test_choice_of_parameters(problem) -> None:
    model = dict(problem.loaded.model.named_parameters())
    assert choose_parameters(problem.loaded, "all").size == sum(p.numel() for p in model.values())
    linear = choose_parameters(problem.loaded, "linear").names
    assert set(linear) <= set(linear_modules(problem.loaded))
    assert not [name for name in linear if "lora_" in name or "embed" in name or "wte" in name or "lm_head" in name]
    if "lora_" in problem.names[0]:
        assert choose_parameters(problem.loaded, "adapter").names == problem.names
        assert len(linear) == 2 * 7
    else:
        assert len(linear) == 2 * 4
        with pytest.raises(ModelError, match="adapter"):
            choose_parameters(problem.loaded, "adapter")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("LORA", {}),
        ("LORA", {"bias": "lora_only"}),
        ("LORA", {"modules_to_save": ["lm_head"], "trainable_token_indices": [5, 9]}),
        ("LOHA", {}),
        ("LOKR", {}),
        ("BOFT", {}),
        ("LN_TUNING", {}),
        ("FOURIERFT", {}),
        ("VBLORA", {}),
        ("ADAPTION_PROMPT", {}),
    ],
)
def test_an_adapter_of_any_type_is_what_gradients_are_taken_of(
    tmp_path: Path, some_turns, kind: str, changes: dict[str, object]
) -> None:
    """Its parameters are those that PEFT trains, and a checkpoint saved by PEFT has them."""
    model = make_adapter(tmp_path / "base", tmp_path / "adapter", kind, **changes)
    trained = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    loaded, turns = LoadedModel.wrap(model, tiny_tokenizer()), some_turns(2)
    layout = choose_parameters(loaded, "auto")
    assert list(layout.names) == list(trained)
    assert choose_parameters(loaded, "adapter") == layout
    assert not any(p.requires_grad for p in model.parameters())
    expected = plain.flat(plain.gradient_rows(loaded, turns, layout.names))
    assert worst(gathered(loaded, turns), expected.double()) < RTOL_FLOAT32


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("LORA", {"modules_to_save": ["lm_head"], "bias": "lora_only"}), ("LOKR", {}), ("LN_TUNING", {}), ("BOFT", {})],
)
def test_a_checkpoint_of_an_adapter_of_any_type_is_read(tmp_path: Path, kind: str, changes: dict[str, object]) -> None:
    model = make_adapter(tmp_path / "base", tmp_path / "adapter", kind, **changes)
    trained = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    kept = FolderCheckpoint(tmp_path / "adapter", 0.1).values(list(trained))
    assert all(torch.equal(kept[name], p) for name, p in trained.items())


def confident(some_turns) -> tuple[dict[torch.dtype, LoadedModel], list[EncodedTurn]]:
    """A model with the same weights in three dtypes, and one-token answers of which it is sure."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight.mul_(60)
    models = {dtype: copy.deepcopy(model.half()).to(dtype) for dtype in (torch.float16, torch.float32, torch.float64)}
    turns = []
    for one in some_turns(60):
        prompt = one.input_ids[: one.response_start]
        p = models[torch.float64](torch.tensor([prompt])).logits[0, -1].softmax(-1)
        if 1e-11 < 1 - float(p.max()) < 1e-7:
            turns.append(replace(one, input_ids=(*prompt, int(p.argmax()))))
    return {dtype: LoadedModel.wrap(own, tiny_tokenizer()) for dtype, own in models.items()}, turns


def test_gradients_of_answers_that_the_model_is_sure_of_keep_their_direction(some_turns) -> None:
    models, turns = confident(some_turns)
    assert len(turns) >= 3
    expected = gathered(models[torch.float64], turns)
    for dtype, least in ((torch.float32, 1 - 1e-4), (torch.float16, 0.99)):
        found = unit_rows(gathered(models[dtype], turns))
        assert (found * unit_rows(expected)).sum(dim=1).min() > least


def test_curvature_in_float16_is_that_of_float32(some_turns) -> None:
    """The rows' own tokens, of which the model is sure: their gradients are below what float16 can hold."""
    models, turns = confident(some_turns)
    rows, shares = TurnSet.of(turns), []
    for dtype in (torch.float16, torch.float64):
        modules = {name: m for name, m in linear_modules(models[dtype]).items() if "down_proj" in name}
        bases = kronecker_bases(models[dtype], rows, modules, None, max_tokens=4096)
        shares.append(torch.stack([basis.left[:, -1].double() for basis in bases.values()]))  # the largest eigenvector
    assert (shares[0] * shares[1]).sum(dim=1).abs().min() > 0.99


def test_what_overflows_in_float16_is_run_again_with_a_smaller_scale(
    some_turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = LoadedModel.wrap(tiny_model("llama", dtype=torch.float16), tiny_tokenizer())
    turns, found = some_turns(3), []
    modules = {name: m for name, m in linear_modules(loaded).items() if "down_proj" in name}
    for peaks in ((1.0,), (2.0**40, 1.0)):
        monkeypatch.setattr(per_example, "PEAKS", peaks)
        monkeypatch.setattr(kronecker, "PEAKS", peaks)
        bases = kronecker_bases(loaded, TurnSet.of(turns), modules, None, max_tokens=4096)
        found.append((gathered(loaded, turns), *(basis.left for basis in bases.values())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_rows_of_a_model_with_two_rotations_are_rotated_as_alone(some_turns) -> None:
    """Longer rows than `original_max_position_embeddings` have rotations of their own."""
    rope = {
        "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0],
        "original_max_position_embeddings": 6, "factor": 16.0,
    }  # fmt: skip
    loaded = wrapped("llama", rope_parameters=rope)
    turns = [replace(some_turns(1)[0], input_ids=tuple(range(10, 10 + n)), response_start=2) for n in (4, 6, 7, 8)]
    expected = plain.flat(plain.gradient_rows(loaded, turns, choose_parameters(loaded, "all").names))
    assert worst(gathered(loaded, turns), expected) < RTOL_FLOAT32_PARTS


def test_an_adapter_whose_weights_are_not_found_is_refused(tmp_path: Path) -> None:
    loaded = LoadedModel.wrap(make_adapter(tmp_path, tmp_path / "adapter", "LOKR"), tiny_tokenizer())
    for module in loaded.model.modules():
        module.adapter_layer_names = ()
    with pytest.raises(ModelError, match="No parameter fits the choice 'auto'"):
        choose_parameters(loaded, "auto")


def test_a_row_that_is_not_finite_is_named(some_turns) -> None:
    loaded = wrapped("llama")
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[37] = float("inf")
    queries, turns = TurnSet.of(some_turns(2)), some_turns(6)
    turns[3] = replace(turns[3], input_ids=(37, 5, 6), response_start=1)
    train = TurnSet.of(turns, [f"train.jsonl:{i + 1}" for i in range(6)])
    with pytest.raises(NonFiniteError, match=r"The gradient of train\.jsonl:4 holds"):
        dot_scores(Gradients(Subject(loaded), queries), Gradients(Subject(loaded), train))


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_ekfac_leaves_out_the_maps_that_no_row_runs_and_says_so(some_turns) -> None:
    """Mamba's layers take the weight of dt_proj by itself."""
    loaded = LoadedModel.wrap(tiny_model("mamba"), tiny_tokenizer())
    rows = TurnSet.of(some_turns(4))
    method = EKFAC(Subject(loaded, parameters="linear"))
    with pytest.warns(WhenceWarning, match=r"leaves out 4 linear maps, the first .*layers\.0\.mixer\.dt_proj"):
        method.fit(rows)
    assert {name for name in linear_modules(loaded) if "dt_proj" not in name} == set(method._layout.names)
    assert method.score(rows).isfinite().all()


def test_ekfac_without_any_map_that_is_run_is_refused(problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ekfac, "kronecker_bases", lambda *_, **__: {})
    with pytest.raises(ModelError, match="found no curvature"):
        EKFAC(problem.subject).fit(problem.train)


def test_unit_vectors(problem) -> None:
    layout = choose_parameters(problem.loaded, "auto")
    g = torch.randn(3, layout.size, dtype=torch.float64)
    g[1] = 0
    assert torch.allclose(unit_rows(g).norm(dim=1), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
    norms = torch.stack([unit_per_parameter(layout)(g)[:, part].norm(dim=1) for part in layout.slices()], dim=1)
    assert torch.allclose(norms[[0, 2]], torch.ones_like(norms[[0, 2]]))
    assert torch.equal(norms[1], torch.zeros_like(norms[1]))
