"""The fine-tune's folder: whole or absent, the same for the same seed, readable by the rest of whence."""

from __future__ import annotations

import datetime
import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tokenizers.processors import TemplateProcessing

from field_templates import DATED
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import Example
from whence.errors import InputError, MismatchError, ModelError
from whence.index.store import Index
from whence.methods.gradients.checkpoints import FolderCheckpoint
from whence.model import before
from whence.model.before import check_base, named_base
from whence.model.loading import LoadedModel, ModelSettings, load_model, load_tokenizer
from whence.records.settings import settings_of_folder
from whence.train.finetuning import OPTIMIZER, FinetuneSettings, finetune
from worlds import rows, write_jsonl

EXAMPLES = [Example.from_pair(f"Where is boat {i}?", "On the sea. " * (1 + i % 2)) for i in range(10)]
FULL = FinetuneSettings(epochs=2, batch_size=4, learning_rate=1e-2, device="cpu", max_length=64)
KEEP = FULL.model_copy(update={"checkpoints": True, "keep_optimizer_state": True})
LORA = KEEP.model_copy(update={"lora_r": 2, "lora_alpha": 4.0, "lora_dropout": 0.1})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = [*folder.glob("model.safetensors"), *folder.glob("adapter_model.safetensors")]
    return load_file(file)


@pytest.mark.parametrize("settings", [FULL, LORA], ids=["full", "lora"])
def test_same_seed_same_bits(base: Path, tmp_path: Path, settings: FinetuneSettings) -> None:
    first = weights(finetune(base, EXAMPLES, tmp_path / "a", settings=settings).path)
    torch.manual_seed(99)  # the global state must not matter
    again = weights(finetune(base, EXAMPLES, tmp_path / "b", settings=settings).path)
    other = settings.model_copy(update={"seed": 1})
    changed = weights(finetune(base, EXAMPLES, tmp_path / "c", settings=other).path)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], changed[name]) for name in first)


@pytest.mark.parametrize("settings", [KEEP, LORA], ids=["full", "lora"])
def test_what_methods_need_is_there(base: Path, tmp_path: Path, settings: FinetuneSettings) -> None:
    result = finetune(base, EXAMPLES, tmp_path / "out", settings=settings)
    lora = settings.lora_r is not None
    loaded = load_model(
        ModelSettings(model=str(base), adapter=str(result.path)) if lora else ModelSettings(model=str(result.path))
    )
    names = [name for name, _ in loaded.model.named_parameters() if not lora or ".lora_" in name]
    assert result.losses[-1] < result.losses[0]
    assert result.is_adapter == lora
    assert [kept.path.name for kept in result.checkpoints] == ["epoch-1", "epoch-2"]
    own = dict(loaded.model.named_parameters())
    for kept in result.checkpoints:
        checkpoint = FolderCheckpoint(kept.path, kept.learning_rate)
        values, adam = checkpoint.values(names), checkpoint.adam()
        assert adam is not None
        assert adam.step == 3 * int(kept.path.name[-1])
        assert adam.betas == (0.9, 0.999)
        assert set(adam.exp_avg) == set(names)
        assert all(adam.exp_avg_sq[name].shape == own[name].shape for name in names)
        assert all((adam.exp_avg_sq[name] >= 0).all() for name in names)
        assert any(adam.exp_avg[name].abs().sum() > 0 for name in names)
    assert all(torch.equal(values[name], own[name]) for name in names), "the last checkpoint is not the model"
    assert (result.path / OPTIMIZER).exists()
    assert 0 < result.checkpoints[1].learning_rate < result.checkpoints[0].learning_rate


def test_order_and_run_say_what_happened(base: Path, tmp_path: Path) -> None:
    result = finetune(base, EXAMPLES, tmp_path / "out", settings=FULL)
    order = json.loads((result.path / "data_order.json").read_text("utf-8"))
    run = yaml.safe_load((result.path / "run.yaml").read_text("utf-8"))
    assert order["turns"] == [[row, 0] for row in range(len(EXAMPLES))]
    epoch = order["steps"][: order["steps_per_epoch"]]
    assert sorted(i for step in epoch for i in step) == list(range(len(EXAMPLES)))
    assert FinetuneSettings(**run["settings"]) == FULL
    assert run["n_steps"] == len(order["steps"]) == len(result.losses)
    assert {"data", "base"} <= run["hashes"].keys()
    again = finetune(base, EXAMPLES[::-1], tmp_path / "again", settings=FULL)
    other = yaml.safe_load((again.path / "run.yaml").read_text("utf-8"))
    assert other["hashes"]["base"] == run["hashes"]["base"]
    assert other["hashes"]["data"] != run["hashes"]["data"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing(base: Path, tmp_path: Path, error: type[BaseException]) -> None:
    def stop(stage: str, step: int, n_steps: int | None) -> None:
        if step == 4:  # in the second epoch, after a checkpoint was written
            raise error

    with pytest.raises(error):
        finetune(base, EXAMPLES, tmp_path / "out", settings=KEEP, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_what_is_there_stays(base: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="there already"):
        finetune(base, EXAMPLES, tmp_path / "out", settings=FULL)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_a_base_in_memory_is_not_changed(tmp_path: Path) -> None:
    loaded = LoadedModel.wrap(tiny_model("llama"), tiny_tokenizer(CHAT_TEMPLATE))
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    finetune(loaded, EXAMPLES, tmp_path / "out", settings=FULL)
    assert all(torch.equal(before[name], value) for name, value in loaded.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_base_with_an_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = finetune(base, EXAMPLES, tmp_path / "adapter", settings=LORA).path
    with pytest.raises(InputError, match="has an adapter"):
        finetune(adapter, EXAMPLES, tmp_path / "out", settings=FULL)


def test_bfloat16_computes_otherwise_and_keeps_the_weights_type(base: Path, tmp_path: Path) -> None:
    """The weights stay float32 and end near those of float32 training, and run.yaml says what "auto" came to."""
    short = FULL.model_copy(update={"epochs": 1, "learning_rate": 1e-3})
    finetune(base, EXAMPLES, tmp_path / "plain", settings=short)
    finetune(base, EXAMPLES, tmp_path / "fast", settings=short.model_copy(update={"autocast": "bfloat16"}))
    finetune(base, EXAMPLES, tmp_path / "auto", settings=short.model_copy(update={"autocast": "auto"}))
    plain, fast = weights(tmp_path / "plain"), weights(tmp_path / "fast")
    assert all(tensor.dtype == torch.float32 for tensor in fast.values())
    assert any(not torch.equal(plain[name], fast[name]) for name in plain)
    moved = max(float((plain[name] - fast[name]).abs().max()) for name in plain)
    assert moved <= 2 * 3 * 1e-3, "three steps of Adam move a weight by at most the learning rate each"
    said = yaml.safe_load((tmp_path / "auto" / "run.yaml").read_text("utf-8"))["settings"]["autocast"]
    assert said in ("bfloat16", "off")


def rename_base(run: Path, name: str) -> None:
    """The base in a run.yaml, as an earlier version or another user wrote it."""
    file = run / "run.yaml"
    content = yaml.safe_load(file.read_text("utf-8"))
    file.write_text(yaml.safe_dump(content | {"base": name}), "utf-8")


def test_the_base_is_named_from_anywhere(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = finetune("base", EXAMPLES, "runs/out", settings=FULL.model_copy(update={"epochs": 1})).path.resolve()
    (tmp_path / "elsewhere" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert yaml.safe_load((run / "run.yaml").read_text("utf-8"))["base"] == str(base)
    assert named_base(str(run)) == str(base)
    rename_base(run, "base")
    assert named_base(str(run)) == str(tmp_path / "elsewhere" / "base"), "the last place that is looked at is here"
    shutil.copytree(base, tmp_path / "runs" / "base")
    assert named_base(str(run)) == str(tmp_path / "runs" / "base"), "a folder beside the run comes before one here"
    rename_base(run, str(tmp_path / "gone"))
    assert named_base(str(run)) is None


def test_a_base_on_the_hub_is_named_where_it_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = LoadedModel.wrap(
        tiny_model("llama"), tiny_tokenizer(CHAT_TEMPLATE), ModelSettings(model="org/name", device="cpu")
    )
    run = finetune(loaded, EXAMPLES, tmp_path / "out", settings=FULL.model_copy(update={"epochs": 1})).path
    monkeypatch.setattr(before, "stored_file", lambda place, name: Path(name) if place == "org/name" else None)
    assert named_base(str(run)) == "org/name"

    def not_reached(place: str, name: str) -> Path:
        raise ModelError("no network", "", "")

    monkeypatch.setattr(before, "stored_file", not_reached)
    assert named_base(str(run)) is None


def test_the_hub_is_not_asked_for_a_path_of_an_earlier_version(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`runs/base`, which is gone, may be a stranger's model on the hub."""
    run = finetune(base, EXAMPLES, tmp_path / "out", settings=FULL.model_copy(update={"epochs": 1})).path
    rename_base(run, "runs/base")
    asked: list[str] = []
    monkeypatch.setattr(before, "stored_file", lambda place, name: asked.append(place))
    assert named_base(str(run)) is None
    assert not asked
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    snapshot = tmp_path / "cache" / "models--runs--base" / "snapshots" / "a1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a1")
    assert named_base(str(run)) == "runs/base", "what is in the cache was asked for before"
    assert not asked


def test_a_base_with_other_weights_than_the_runs_is_refused(base: Path, tmp_path: Path) -> None:
    run = finetune(base, EXAMPLES, tmp_path / "out", settings=FULL.model_copy(update={"epochs": 1})).path
    tuned = load_model(ModelSettings(model=str(run), dtype="float32", device="cpu"))
    check_base(tuned, load_model(ModelSettings(model=str(base), dtype="float32", device="cpu")))
    other = tmp_path / "other"
    tiny_model("llama", seed=7).save_pretrained(other)
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(other)
    with pytest.raises(MismatchError, match=r"other is not the model that .*out was fine-tuned from"):
        check_base(tuned, load_model(ModelSettings(model=str(other), dtype="float32", device="cpu")))
    # The run's hash is of the base in float32: in bfloat16 it says nothing.
    check_base(tuned, load_model(ModelSettings(model=str(other), dtype="bfloat16", device="cpu")))


TEMPLATE = "{% for m in messages %}{{ '## ' + m['role'] + ': ' + m['content'] }}{% endfor %}"


@pytest.mark.parametrize("bos", [False, True])
def test_the_template_that_was_given_is_saved_with_the_tokenizer(base: Path, tmp_path: Path, bos: bool) -> None:
    """Read by the saved tokenizer alone, rows have the tokens that were trained on, also the beginning-of-text one."""
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE, bos=bos)
    if bos:
        before_text = TemplateProcessing(single="<|user|> $A", special_tokens=[("<|user|>", 1)])
        tokenizer.backend_tokenizer.post_processor = before_text
    loaded = LoadedModel.wrap(tiny_model("llama"), tokenizer)
    encoder = Encoder(tokenizer, template=TEMPLATE, max_length=64)
    run = finetune(loaded, EXAMPLES, tmp_path / "out", settings=LORA, encoder=encoder).path
    for place in (run, run / "checkpoints" / "epoch-1"):
        saved = Encoder(load_tokenizer(ModelSettings(model=str(place))), max_length=64)
        assert saved.template_source == "tokenizer"
        assert [saved.encode(row) for row in EXAMPLES] == [encoder.encode(row) for row in EXAMPLES]
    assert tokenizer.chat_template == CHAT_TEMPLATE, "the base's own tokenizer is not changed"


def test_an_index_reads_the_rows_as_the_run_did(whence, base: Path, tmp_path: Path) -> None:
    """Template, length and columns are those of run.yaml, whether the printed command or a bare one is run."""
    asked = [{"question": row["prompt"], "answer": row["response"], "prompt": "Not this"} for row in rows()]
    data = write_jsonl(tmp_path / "train.jsonl", asked)
    (tmp_path / "chat.jinja").write_text(TEMPLATE, "utf-8")
    read = ("--columns", "prompt=question,response=answer", "--template", tmp_path / "chat.jinja", "--max-length", 24)
    run = tmp_path / "run"
    status, _, said = whence("finetune", base, data, "-o", run, "--lora-r", 2, "--epochs", 1, *read)
    assert status == 0
    assert "24 of 24 rows (100.0%) were cut to 24 tokens (--max-length)" in said
    (printed,) = (line.partition("whence index ")[2] for line in said.splitlines() if line.startswith("Index it"))
    assert whence("index", *shlex.split(printed))[0] == 0
    status, _, said = whence("index", base, data, "--adapter", run, "-o", tmp_path / "bare")
    assert status == 0
    assert "run.yaml says: --max-length 24, its template, --columns prompt=question,response=answer" in said
    trained = yaml.safe_load((run / "run.yaml").read_text("utf-8"))
    for place in (tmp_path / "run-index", tmp_path / "bare"):
        index = Index.open(place)
        assert index.manifest.hashes.template == trained["hashes"]["base"]["template"]
        assert index.manifest.max_length == 24
        assert index.fetch([0])[0].prompt == asked[0]["question"]
    said = whence("index", base, data, "--adapter", run, "-o", tmp_path / "longer", "--max-length", 30)[2]
    assert "Rows are read to 30 tokens; the model was trained on 24" in said
    other = write_jsonl(tmp_path / "other.jsonl", rows())
    assert whence("index", base, other, "--adapter", run, "-o", tmp_path / "others")[0] == 0, "it has other columns"


def test_an_index_has_the_day_that_the_run_was_trained_with(
    whence, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_jsonl(tmp_path / "train.jsonl", rows()[:4])
    (tmp_path / "dated.jinja").write_text(DATED, "utf-8")
    run, dated = tmp_path / "run", ("--template", tmp_path / "dated.jinja")

    class Earlier(datetime.date):
        @classmethod
        def today(cls) -> datetime.date:
            return cls(2024, 7, 26)

    with monkeypatch.context() as patch:
        patch.setattr("whence.data.encoding.datetime", SimpleNamespace(date=Earlier))
        said = whence("finetune", base, data, "-o", run, "--lora-r", 2, "--epochs", 1, *dated)[2]
    assert "--date 2024-07-26" in said
    status, _, said = whence("index", base, data, "--adapter", run, "-o", tmp_path / "index")
    assert (status, "its template, --date 2024-07-26" in said) == (0, True)
    assert Index.open(tmp_path / "index").manifest.rows.date == "2024-07-26"
    replayed = yaml.safe_load((tmp_path / "index" / "run.yaml").read_text("utf-8"))
    assert replayed["settings"]["date"] == replayed["resolved"]["date"] == "2024-07-26"
    said = whence("finetune", base, data, "-o", tmp_path / "plain", "--lora-r", 2, "--epochs", 1)[2]
    assert "--date" not in said, "its template writes no day"


def test_a_run_of_an_earlier_version_says_the_length(base: Path, tmp_path: Path) -> None:
    run = finetune(base, EXAMPLES, tmp_path / "out", settings=FULL).path
    file = run / "run.yaml"
    content = yaml.safe_load(file.read_text("utf-8"))
    del content["rows"]
    file.write_text(yaml.safe_dump(content), "utf-8")
    taken = settings_of_folder(run, "train.jsonl", {})
    assert taken.options == {"max_length": 64}
    assert settings_of_folder(run, "train.jsonl", {}, use_record=False).options == {}


def test_a_full_fine_tune_in_bfloat16_trains_as_one_in_float32_does(tmp_path: Path) -> None:
    """Steps below the rounding of bfloat16 add up: norms of 1.0 move, as they do in float32, and are saved rounded."""
    base = tmp_path / "base"
    model = tiny_model("llama", num_hidden_layers=2).to(torch.bfloat16)
    model.save_pretrained(base)
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(base)
    exact = KEEP.model_copy(update={"epochs": 4, "learning_rate": 1.5e-3, "schedule": "constant", "batch_size": 2})
    coarse = exact.model_copy(update={"dtype": "bfloat16"})
    expected, found = (
        weights(finetune(base, EXAMPLES, tmp_path / name, settings=settings).path)
        for name, settings in (("exact", exact), ("coarse", coarse))
    )
    start = model.state_dict()
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    norm = "model.norm.weight"
    moved = (expected[norm] - start[norm].float()).abs()
    assert moved.mean() > 0.02, "20 steps of 1.5e-3, each of which bfloat16 near 1.0 rounds away"
    assert (found[norm].float() - expected[norm]).abs().mean() < 0.2 * moved.mean()
    for name in ("coarse", "coarse/checkpoints/epoch-4"):
        loaded = load_model(ModelSettings(model=str(tmp_path / name), device="cpu", dtype="bfloat16")).model
        assert all(torch.equal(loaded.state_dict()[key], value) for key, value in found.items())
        moments = load_file(tmp_path / name / OPTIMIZER)
        assert {tensor.dtype for tensor in moments.values()} == {torch.float32}
    run = yaml.safe_load((tmp_path / "coarse" / "run.yaml").read_text("utf-8"))["settings"]
    assert (run["dtype"], run["autocast"]) == ("bfloat16", "bfloat16")


REFUSING = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
)


def test_rows_that_the_template_refuses_are_set_aside_up_to_the_limit(whence, base: Path, tmp_path: Path) -> None:
    content: list[dict[str, object]] = [dict(row) for row in rows()]
    content[7]["system"] = "Be kind."
    data = write_jsonl(tmp_path / "train.jsonl", content)
    (tmp_path / "chat.jinja").write_text(REFUSING, "utf-8")
    command = ("finetune", base, data, "--lora-r", 2, "--epochs", 1, "--template", tmp_path / "chat.jinja")
    status, _, said = whence(*command, "-o", tmp_path / "out")
    assert status == 0
    assert "1 rows were left out; the first: " in said
    assert "train.jsonl:8: " in said
    assert "no system turn" in said
    assert "23 rows, 2 steps" in said
    run = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text("utf-8"))
    assert run["n_examples"] == 23
    order = json.loads((tmp_path / "out" / "data_order.json").read_text("utf-8"))
    assert [row for row, _ in order["turns"]] == [*range(7), *range(8, 24)], "rows are numbered as in the data"
    status, _, said = whence(*command, "-o", tmp_path / "none", "--max-rejected", 0.01)
    assert status == 2
    assert "1 of 24 rows cannot be used" in said
    assert not (tmp_path / "none").exists()


def test_rows_are_cut_to_the_positions_that_the_model_has(whence, tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_model("gpt2", n_positions=64).save_pretrained(base)
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(base)
    long = [{"prompt": row["prompt"], "response": f"{row['response']} " * 9} for row in rows()]
    status, _, said = whence(
        "finetune", base, write_jsonl(tmp_path / "train.jsonl", long), "-o", tmp_path / "out", "--epochs", 1
    )
    assert status == 0
    assert "24 of 24 rows (100.0%) were cut to 64 tokens" in said
    examples = [Example.from_pair("Where?", "On the sea. " * 40)]
    finetune(base, examples, tmp_path / "again", settings=FULL.model_copy(update={"max_length": 512}))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--lora-target", "q_proj"], "--lora-target was given without --lora-r"),
        (["--lora-alpha", 8], "--lora-alpha was given without --lora-r"),
        (["--lora-dropout", 0.1], "--lora-dropout was given without --lora-r"),
        (["--lora-r", 2, "--lora-target", "q_proj", "--lora-target", "v_porj"], "Did you mean v_proj?"),
        (["--lora-r", 2, "--lora-target", "input_layernorm"], "PEFT puts no adapter on"),
    ],
)
def test_an_adapter_that_cannot_be_is_refused(
    whence, base: Path, tmp_path: Path, given: list[object], expected: str
) -> None:
    data = write_jsonl(tmp_path / "train.jsonl", rows())
    status, _, said = whence("finetune", base, data, "-o", tmp_path / "out", *given)
    assert status == 2
    assert expected in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
