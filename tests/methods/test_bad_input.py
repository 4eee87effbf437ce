"""What a method needs and does not have is said in one message, with the command that would give it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from whence.errors import InputError
from whence.methods.base import SharedWork, TurnSet
from whence.methods.gradients.checkpoints import OPTIMIZER, FolderCheckpoint, read_adam_state, run_checkpoints
from whence.methods.registry import make_method, method_names
from whence.methods.text_embedding import load_encoder, token_limit
from whence.run_file import RunCheckpoint, RunFile, RunHashes, write_run_file


def test_less_without_optimizer_state_names_the_command(problem) -> None:
    bare = replace(problem.subject, checkpoints=())
    forgetful = [replace(c, state=None) for c in problem.subject.checkpoints]
    for subject in (bare, replace(problem.subject, checkpoints=tuple(forgetful))):
        with pytest.raises(InputError, match="whence finetune --keep-optimizer"):
            make_method("less", subject).fit(problem.train)


def test_less_with_moments_of_other_parameters(problem) -> None:
    c = problem.subject.checkpoints[0]
    short = replace(c.state, exp_avg={k: v for k, v in c.state.exp_avg.items() if k != problem.names[0]})
    subject = replace(problem.subject, checkpoints=(replace(c, state=short),))
    with pytest.raises(InputError, match=f"miss 1 of .*{problem.names[0]}"):
        make_method("less", subject).fit(problem.train)


def test_tracincp_without_checkpoints(problem) -> None:
    with pytest.raises(InputError, match="whence finetune --checkpoints"):
        make_method("tracincp", replace(problem.subject, checkpoints=())).fit(problem.train)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"damping": 0.0}])
def test_lissa_refuses_to_run_without_iterating(problem, options) -> None:
    with pytest.raises(InputError, match="iteration"):
        make_method("lissa", problem.subject, **options)


def test_ekfac_refuses_an_unknown_fisher(problem) -> None:
    with pytest.raises(InputError, match="sampled"):
        make_method("ekfac", problem.subject, fisher="exact")


@pytest.fixture
def folder(problem, tmp_path: Path) -> Path:
    """A checkpoint folder as save_pretrained writes it, with the optimizer's moments."""
    checkpoint = problem.subject.checkpoints[0]
    model = problem.loaded.model
    parameters = dict(model.named_parameters())
    before = {name: parameters[name].detach().clone() for name in problem.names}
    with torch.no_grad():
        for name in problem.names:
            parameters[name].copy_(checkpoint.weights[name])
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        for name in problem.names:
            parameters[name].copy_(before[name])
    state = checkpoint.state
    tensors = {f"exp_avg/{k}": v for k, v in state.exp_avg.items()}
    tensors |= {f"exp_avg_sq/{k}": v for k, v in state.exp_avg_sq.items()}
    save_file(tensors, tmp_path / OPTIMIZER, {"step": str(state.step), "beta1": "0.8", "eps": "1e-6"})
    return tmp_path


def test_a_folder_gives_weights_and_moments_back(problem, folder: Path) -> None:
    expected = problem.subject.checkpoints[0]
    checkpoint = FolderCheckpoint(folder, 0.5)
    values, state = checkpoint.values(problem.names), checkpoint.adam()
    assert all(torch.equal(values[name], expected.weights[name]) for name in problem.names)
    assert state is not None
    assert all(torch.equal(state.exp_avg_sq[name], expected.state.exp_avg_sq[name]) for name in problem.names)
    assert (state.step, state.betas, state.eps) == (expected.state.step, (0.8, 0.999), 1e-6)
    scores = []
    for part in (replace(expected, learning_rate=0.5), checkpoint):
        method = make_method("tracincp", replace(problem.subject, checkpoints=(part,)))
        method.fit(problem.train)
        scores.append(method.score(problem.queries))
    torch.testing.assert_close(*scores, rtol=1e-9, atol=1e-12)  # memory is aligned otherwise, so the last bits differ


def test_a_half_written_folder_is_named(problem, folder: Path) -> None:
    weights = next(folder.glob("*model.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="half written"):
        FolderCheckpoint(folder, 0.5).values(problem.names)
    weights.unlink()
    with pytest.raises(InputError, match="unfinished"):
        FolderCheckpoint(folder, 0.5).values(problem.names)
    save_file({"other": torch.zeros(1)}, weights)
    with pytest.raises(InputError, match=f"{len(problem.names)} weights are missing"):
        FolderCheckpoint(folder, 0.5).values(problem.names)


def test_a_missing_shard_is_named(problem, folder: Path) -> None:
    index = {"weight_map": dict.fromkeys(problem.names, "model-00002-of-00002.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(InputError, match="model-00002-of-00002"):
        FolderCheckpoint(folder, 0.5).values(problem.names)


def test_foreign_optimizer_files_are_refused(folder: Path) -> None:
    save_file({"exp_avg/a": torch.zeros(2)}, folder / OPTIMIZER)
    with pytest.raises(InputError, match="no complete set"):
        read_adam_state(folder / OPTIMIZER)
    (folder / OPTIMIZER).unlink()
    assert FolderCheckpoint(folder, 0.5).adam() is None


def test_text_embedding_needs_a_local_encoder_it_understands(problem, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--text-encoder"):
        make_method("text-embedding", replace(problem.subject, text_encoder=None)).fit(problem.train)
    with pytest.raises(InputError, match=r"no config\.json"):
        make_method("text-embedding", problem.subject, encoder=str(tmp_path)).fit(problem.train)
    copy = tmp_path / "encoder"
    shutil.copytree(encoder, copy)
    parts = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Dense")]
    (copy / "modules.json").write_text(json.dumps(parts), "utf-8")
    with pytest.raises(InputError, match="Dense"):
        make_method("text-embedding", problem.subject, encoder=str(copy)).fit(problem.train)


def test_text_embedding_cuts_texts_at_what_the_encoder_can_read(problem, encoder: Path, tmp_path: Path) -> None:
    """RoBERTa counts positions from behind that of its padding: 34 of them are 32 tokens with padding_idx 1."""
    from transformers import RobertaConfig, RobertaModel

    shutil.copytree(encoder, tmp_path / "roberta")
    config = RobertaConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(tmp_path / "roberta")
    rows = TurnSet.of([replace(problem.train.turns[0], prompt="river " * 60, response="stone")])
    folder = tmp_path / "roberta"
    for allowed, limit in ((None, 32), (20, 20)):
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": allowed}), "utf-8")
        tokenizer, model, _ = load_encoder(folder)
        assert token_limit(folder, tokenizer, model) == limit
        method = make_method("text-embedding", problem.subject, encoder=str(folder))
        method.fit(rows)
        assert method.score(rows).item() == pytest.approx(1)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": "many"}', "utf-8")
    with pytest.raises(InputError, match="sentence_bert_config"):
        make_method("text-embedding", problem.subject, encoder=str(folder)).fit(rows)


def test_text_embedding_pools_as_the_folder_says(problem, encoder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "encoder"
    shutil.copytree(encoder, copy)
    parts = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling")]
    (copy / "modules.json").write_text(json.dumps(parts), "utf-8")
    (copy / "1_Pooling").mkdir()
    found = []
    for mode in ("mean_tokens", "cls_token"):
        (copy / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}), "utf-8")
        method = make_method("text-embedding", problem.subject, encoder=str(copy))
        method.fit(problem.train)
        found.append(method.score(problem.queries))
    plain = make_method("text-embedding", problem.subject)
    plain.fit(problem.train)
    assert torch.equal(found[0], plain.score(problem.queries))
    assert not torch.allclose(found[0], found[1], atol=1e-3)


SMALL = {"rapidin": {"dim": 32}, "less": {"dim": 32}, "lissa": {"iterations": 3}}


def test_shared_work_changes_no_score_and_counts_what_it_spares(problem) -> None:
    shared = SharedWork()
    with_sharing = replace(problem.subject, shared=shared)
    for name in method_names():
        alone, together = (make_method(name, s, **SMALL.get(name, {})) for s in (problem.subject, with_sharing))
        for method in (alone, together):
            method.fit(problem.train)
        a, b = (method.score(problem.queries) for method in (alone, together))
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12), name
        assert alone.bytes_per_row() == together.bytes_per_row() >= 0
    assert shared.seconds_spared > 0


def test_shared_work_is_done_once_for_the_same_rows_and_only_with_room(problem) -> None:
    shared, calls = SharedWork(max_bytes=100), []

    def work() -> int:
        calls.append(1)
        return len(calls)

    again = TurnSet.of(problem.train.turns)
    assert [shared.get(("a",), problem.train, 60, work) for _ in range(2)] == [1, 1]
    assert shared.get(("a",), again, 60, work) is None
    assert shared.get(("b",), problem.train, 40, work) == 2
    shared.clear()
    assert shared.get(("a",), again, 60, work) == 3


def run_of(*checkpoints: RunCheckpoint) -> RunFile:
    return RunFile(
        base="base",
        settings={"learning_rate": 0.5},
        hashes=RunHashes(data="d", base={"weights": "w"}),
        n_examples=3,
        n_turns=3,
        n_steps=1,
        loss={"first": 1.0, "last": 1.0},
        checkpoints=checkpoints,
        seconds=0.1,
        threads=1,
        versions={},
    )


def test_a_run_of_finetune_gives_its_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder of a fine-tune"):
        run_checkpoints(tmp_path)
    write_run_file(tmp_path, run_of())
    assert run_checkpoints(tmp_path) == (FolderCheckpoint(tmp_path, 0.5),)
    write_run_file(tmp_path, run_of(RunCheckpoint(path="checkpoints/epoch-1", learning_rate=0.25)))
    assert run_checkpoints(tmp_path) == (FolderCheckpoint(tmp_path / "checkpoints/epoch-1", 0.25),)
