"""From a model folder and a data file to an index, with a real tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import PreTrainedModel

from adapters import make_adapter
from oracles import signature_oracle
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.readers import read_examples
from whence.data.templates import FALLBACK_TEMPLATE
from whence.errors import DataError, IndexFolderError, InputError, MismatchError, ModelError
from whence.index.build import build_index, probe_turns
from whence.index.manifest import ADDED, REFERENCES, REJECTED, RUN
from whence.index.sameness import check_model
from whence.index.searching import search
from whence.index.store import Index
from whence.index.verification import verify
from whence.model.beside_weights import settings_beside
from whence.model.fingerprints import fingerprint
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.scoring.defaults import SCORES
from whence.signatures.extract import Extractor
from whence.trace.tracer import Tracer

N_ROWS = 30
STORED_TOLERANCE = 2e-3
"""Relative to the vector's norm: float16 keeps eleven bits of each component."""
WHOLE = {"precision": "float16", "dimensions": None}
"""Vectors as they were extracted."""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny", tiny_model("llama", num_hidden_layers=3))


def save_model(folder: Path, model: PreTrainedModel) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "train.jsonl")


def write_data(path: Path, n_rows: int = N_ROWS) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for row in range(n_rows):
            turns = [
                {"role": "user", "content": f"Name {row} fruits."},
                {"role": "assistant", "content": "pear " * (1 + row % 7)},
            ]
            if row % 5 == 0:
                turns += [{"role": "user", "content": "And more?"}, {"role": "assistant", "content": f"plum {row}"}]
            file.write(json.dumps({"messages": turns, "source": "ab"[row % 2]}) + "\n")
    return path


def test_index_holds_the_oracles_signatures(tmp_path: Path, model_folder: Path, data: Path) -> None:
    said: list[str] = []
    asked = {"layers": [2, "last"], "methods": ["rept"], "shard_rows": 8} | WHOLE
    index = build_index(model_folder, data, tmp_path / "index", notify=said.append, **asked)
    assert verify(index) == []
    assert (index.n_rows, index.n_records, index.layers) == (N_ROWS, N_ROWS + 6, (2, 3))
    assert index.manifest.layer == 2
    assert index.manifest.places() == [(2, "h"), (2, "g"), *((3, name) for name in ("h", "g", "m", "eh"))]
    assert "30 rows (messages)" in " ".join(said)
    assert "is complete" in said[-1]

    loaded = load_model(ModelSettings(model=str(model_folder)))
    check_model(index.manifest, fingerprint(loaded, Encoder(loaded.tokenizer).template), settings_beside(loaded))
    encoder = Encoder(loaded.tokenizer)
    turns = [turn for example in read_examples(data) for turn in encoder.encode(example)]
    (block,) = index.blocks([(2, "h"), (2, "g"), (3, "h"), (3, "g")])
    for i, turn in enumerate(turns):
        for layer in (2, 3):
            h, g, _, _, loss = signature_oracle(loaded.model, turn, layer)
            for name, raw in (("h", h), ("g", g)):
                vectors = block.vectors[layer][name]
                found = vectors.unit[i] * vectors.norm[i]
                torch.testing.assert_close(found, raw, rtol=0, atol=STORED_TOLERANCE * raw.norm().item())
        (record,) = index.fetch([i])
        assert record.loss == pytest.approx(loss, rel=1e-4)
        assert (record.prompt, record.response) == (turn.prompt, turn.response)


def test_a_row_asked_with_its_own_words_is_found(tmp_path: Path, model_folder: Path, data: Path) -> None:
    asked = [name for name, form in SCORES.items() if not form.needs_base]
    index = build_index(model_folder, data, tmp_path / "index", layers=2, methods=asked)
    loaded = load_model(ModelSettings(model=index.manifest.model))
    encoder = Encoder(loaded.tokenizer, max_length=index.manifest.max_length)
    examples = list(read_examples(data))
    extractor = Extractor(loaded, vectors=index.manifest.places())
    queries = extractor.extract([encoder.encode(examples[row])[-1] for row in (3, 10)]).layers
    assert index.manifest.base == ""
    for form in map(SCORES.__getitem__, asked):
        found = search(index, queries, method=form, k=2, where="source = 'b' or source = 'a'")
        assert [hits[0].row for hits in found] == [3, 10]
        assert found[1][0].turn == 1


def test_interrupted_and_continued_equals_uninterrupted(tmp_path: Path, model_folder: Path, data: Path) -> None:
    def interrupt(stage: str, done: int, _total: int | None) -> None:
        if stage == "indexing" and done >= 20:
            raise KeyboardInterrupt

    settings = {"layers": ["auto", "last"], "shard_rows": 8, "max_tokens": 64, "n_probes": 5}
    with pytest.raises(KeyboardInterrupt):
        build_index(model_folder, data, tmp_path / "index", progress=interrupt, **settings)
    with pytest.raises(IndexFolderError, match="16 of 30 rows are saved"):
        Index.open(tmp_path / "index")
    continued = build_index(model_folder, data, tmp_path / "index", **settings)
    whole = build_index(model_folder, data, tmp_path / "whole", **settings)
    assert continued.dataset.to_table().equals(whole.dataset.to_table())
    assert continued.manifest.layer_choice == whole.manifest.layer_choice
    assert continued.manifest.layer_choice["auto"]["n_probes"] == 5


def test_run_yaml_replays_the_build(tmp_path: Path, model_folder: Path, data: Path) -> None:
    index = build_index(model_folder, data, tmp_path / "index", layers=1, max_length=16, max_tokens=100)
    settings = yaml.safe_load((index.path / RUN).read_text())["settings"]
    again = build_index(**(settings | {"out": tmp_path / "again"}))
    assert again.dataset.to_table().equals(index.dataset.to_table())
    said: list[str] = []
    build_index(**settings, notify=said.append)
    assert "was already complete" in said[-1]


def test_an_index_keeps_the_template_that_is_used_where_there_is_none(tmp_path: Path, data: Path) -> None:
    """Earlier versions used it for an adapter's tokenizer without a template, though the base had one."""
    base = save_model(tmp_path / "base", tiny_model("llama"))
    adapter = str(tmp_path / "lora")
    make_adapter(base, tmp_path / "lora", "LORA")
    tiny_tokenizer(None).save_pretrained(adapter)
    (base / "chat_template.jinja").rename(tmp_path / "chat.jinja")
    settings = {"layers": 1, "adapter": adapter, "dtype": "float32", "device": "cpu"}
    index = build_index(base, data, tmp_path / "index", **settings)
    (tmp_path / "chat.jinja").rename(base / "chat_template.jinja")
    assert Tracer(index, device="cpu").encoder.template == FALLBACK_TEMPLATE
    assert verify(index, sample=2) == []
    said: list[str] = []
    build_index(base, data, tmp_path / "index", notify=said.append, **settings)
    assert "was already complete" in said[-1]
    assert (
        build_index(base, data, tmp_path / "anew", **settings).manifest.hashes.template
        != index.manifest.hashes.template
    )


@pytest.mark.parametrize("status", ["building", "complete"])
def test_an_index_goes_on_with_the_length_that_it_was_begun_with(status: str, tmp_path: Path, data: Path) -> None:
    """Of a run.yaml whose length earlier versions did not take over; a length that is named counts."""
    model = save_model(tmp_path / "model", tiny_model("llama", num_hidden_layers=3))
    begun = build_index(model, data, tmp_path / "index", layers=1, max_length=40).manifest
    begun.model_copy(update={"status": status}).write(tmp_path / "index")
    (model / RUN).write_text("command: whence finetune\nsettings: {max_length: 20}\n")
    said: list[str] = []
    again = build_index(model, data, tmp_path / "index", layers=1, notify=said.append)
    assert again.manifest.max_length == 40
    assert said[0] == "Rows are read to 40 tokens; the model was trained on 20"
    with pytest.raises(IndexFolderError, match="max_length: the index has 40, this command gives 20"):
        build_index(model, data, tmp_path / "index", layers=1, max_length=20)
    anew = build_index(model, data, tmp_path / "index", layers=1, overwrite=True)
    assert anew.manifest.max_length == 20


def test_another_model_or_other_data_is_refused_and_overwrite_replaces(
    tmp_path: Path, model_folder: Path, data: Path
) -> None:
    index = build_index(model_folder, data, tmp_path / "index", layers=1)
    other = save_model(tmp_path / "other", tiny_model("llama", num_hidden_layers=3, seed=1))
    with pytest.raises(IndexFolderError, match=r"weights: the index has \w+, this command gives \w+") as caught:
        build_index(other, data, tmp_path / "index", layers=1)
    assert "tokenizer" not in str(caught.value)
    loaded = load_model(ModelSettings(model=str(other)))
    with pytest.raises(MismatchError, match="weights"):
        check_model(index.manifest, fingerprint(loaded, Encoder(loaded.tokenizer).template), settings_beside(loaded))

    (index.path / REFERENCES).mkdir()
    (index.path / REFERENCES / "gains-0.safetensors").write_bytes(b"of the old index")
    shorter = write_data(tmp_path / "shorter.jsonl", 12)
    with pytest.raises(IndexFolderError, match="data content: "):
        build_index(model_folder, shorter, tmp_path / "index", layers=1)
    with pytest.raises(ModelError):
        build_index(tmp_path, shorter, tmp_path / "index", layers=1, overwrite=True)
    assert verify(index) == [], "a command that fails leaves the old index, --overwrite or not"
    replaced = build_index(model_folder, shorter, tmp_path / "index", layers=1, overwrite=True)
    assert replaced.n_rows == 12
    assert verify(replaced) == []
    assert not (index.path / REFERENCES).exists(), "what was kept of the old index must not answer for the new one"


def test_overwrite_removes_nothing_but_an_index(tmp_path: Path, model_folder: Path, data: Path) -> None:
    index = build_index(model_folder, data, tmp_path / "index", layers=1)
    (index.path / "notes.txt").write_text("mine")
    with pytest.raises(IndexFolderError, match=r"it holds notes\.txt"):
        build_index(model_folder, data, tmp_path / "index", layers=1, overwrite=True)
    assert verify(index) == []
    assert (index.path / "notes.txt").read_text() == "mine"


def test_unreadable_rows_are_set_aside_and_listed(tmp_path: Path, model_folder: Path, data: Path) -> None:
    with data.open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "No answer?"}]}\n')
    index = build_index(model_folder, data, tmp_path / "index", layers=1)
    assert index.manifest.counts is not None
    assert (index.n_rows, index.manifest.counts.n_rejected) == (N_ROWS, 1)
    (line,) = (index.path / REJECTED).read_text().splitlines()
    assert json.loads(line)["line"] == N_ROWS + 1
    with pytest.raises(DataError, match="--max-rejected"):
        build_index(model_folder, data, tmp_path / "strict", layers=1, max_rejected=0.0)
    build_index(model_folder, data, tmp_path / "strict", layers=1)


def test_bad_input_leaves_no_folder(tmp_path: Path, model_folder: Path, data: Path) -> None:
    with pytest.raises(DataError):
        build_index(model_folder, tmp_path / "nothing.jsonl", tmp_path / "index")
    with pytest.raises(ModelError):
        build_index(tmp_path, data, tmp_path / "index")
    with pytest.raises(ModelError, match="Layers go from 0"):
        build_index(model_folder, data, tmp_path / "index", layers=9)
    with pytest.raises(ModelError, match="at least one"):
        build_index(model_folder, data, tmp_path / "index", layers=[])
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [({"layer": 1}, "layer: "), ({"max_rejected": 5}, "max_rejected: "), ({"dtype": "int8"}, "dtype: ")],
    ids=str,
)
def test_wrong_settings_are_named(tmp_path: Path, options: dict[str, object], named: str) -> None:
    with pytest.raises(InputError) as caught:
        build_index("model", "data", tmp_path / "index", **options)
    assert named in str(caught.value)


def test_probes_are_drawn_by_the_seed(llama: PreTrainedModel, data: Path) -> None:
    encoder = Encoder(LoadedModel.wrap(llama, tiny_tokenizer(CHAT_TEMPLATE)).tokenizer)

    def drawn(**options: int) -> list[str]:
        return [turn.prompt for turn in probe_turns(read_examples(data), encoder, n_rows=N_ROWS, **options)]

    assert len(set(drawn(n_probes=8))) == 8
    assert drawn(n_probes=8) == drawn(n_probes=8)
    assert drawn(n_probes=8) != drawn(n_probes=8, seed=1)
    assert len(drawn(n_probes=999)) == N_ROWS


def test_by_default_an_index_holds_what_the_default_reads(tmp_path: Path, data: Path) -> None:
    model = save_model(tmp_path / "tuned", tiny_model("llama", num_hidden_layers=3))
    base = save_model(tmp_path / "base", tiny_model("llama", num_hidden_layers=3, seed=1))
    index = build_index(model, data, tmp_path / "index", layers=2, base=str(base))
    assert index.manifest.places() == [(3, "h"), (3, "eh"), (3, "dm")]
    assert index.manifest.methods == ()
    bare = build_index(model, data, tmp_path / "bare", layers=2)
    assert bare.manifest.places() == [(3, "h"), (3, "m"), (3, "eh")]
    with pytest.raises(InputError, match=r"rept-contrast compares with the model before(.|\n)*--base"):
        build_index(model, data, tmp_path / "other", layers=2, methods=["rept-contrast"])
    with pytest.raises(InputError, match="Did you mean rept"):
        build_index(model, data, tmp_path / "other", layers=2, methods=["repd"])


def test_added_vectors_are_those_of_a_build_with_them(
    tmp_path: Path, model_folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any step, the addition goes on; until it is done the index answers as before."""
    settings = {"layers": 2, "shard_rows": 8, "max_tokens": 200}
    whole = build_index(model_folder, data, tmp_path / "whole", methods=["rept"], **settings)
    out = tmp_path / "index"
    before = build_index(model_folder, data, out, **settings).manifest

    def dying(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def interrupt(stage: str, done: int, _total: int | None) -> None:
        if stage == "indexing" and done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(model_folder, data, out, add=["rept"], progress=interrupt, **settings)
    for step in ("_join", "sums_of_records", "publish"):
        with monkeypatch.context() as patch:
            patch.setattr(f"whence.index.add.{step}", dying)
            with pytest.raises(KeyboardInterrupt):
                build_index(model_folder, data, out, add=["rept"], **settings)
        assert Index.open(out).manifest == before
        assert verify(out) == []
    index = build_index(model_folder, data, out, add=["rept"], **settings)
    assert verify(index) == []
    assert set(index.manifest.places()) == set(whole.manifest.places())
    assert not (out / ADDED).exists()
    # A build with a gradient reads states in other batches, so that they are the same but for rounding.
    (found,), (expected,) = (one.blocks(whole.manifest.places()) for one in (index, whole))
    for layer, name in whole.manifest.places():
        for side in ("unit", "norm"):
            sides = [getattr(block.vectors[layer][name], side) for block in (found, expected)]
            torch.testing.assert_close(*sides, rtol=1e-4, atol=STORED_TOLERANCE)
    assert build_index(model_folder, data, out, **settings).manifest == index.manifest, (
        "the old command finds it complete"
    )


def test_nothing_is_added_to_what_is_not_there_or_is_another(tmp_path: Path, model_folder: Path, data: Path) -> None:
    with pytest.raises(IndexFolderError, match=r"no complete index(.|\n)*--methods"):
        build_index(model_folder, data, tmp_path / "index", add=["rept"])
    index = build_index(model_folder, data, tmp_path / "index", layers=2)
    said: list[str] = []
    build_index(model_folder, data, index.path, add=["rept-centred"], notify=said.append)
    assert "holds all that rept-centred reads" in said[-1]
    other = save_model(tmp_path / "other", tiny_model("llama", num_hidden_layers=3, seed=1))
    with pytest.raises(IndexFolderError, match="weights: the index has"):
        build_index(other, data, index.path, add=["rept"])
    with pytest.raises(IndexFolderError, match="precision: the index has int8, this command gives float16"):
        build_index(model_folder, data, index.path, add=["rept"], precision="float16")
    more = build_index(model_folder, data, index.path, add=["rept"], layers="last")
    assert (3, "g") in more.manifest.places()


def test_added_vectors_are_stored_as_the_index_stores_its_own(tmp_path: Path, model_folder: Path, data: Path) -> None:
    index = build_index(model_folder, data, tmp_path / "index", layers=2, dimensions=16)
    more = build_index(model_folder, data, index.path, add=["rept"])
    assert {(vector.precision, vector.stored_dim) for vector in more.manifest.vectors} == {("int8", 16)}
    assert more.manifest.settings["dimensions"] == 16
    assert verify(more) == []
    with pytest.raises(IndexFolderError, match="dimensions: the index has 16, this command gives 1024"):
        build_index(model_folder, data, index.path)
