"""A selftest on tiny models: one that learns the planted faults, one that cannot, and what is asked wrongly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tiny import CHAT_TEMPLATE, tiny_tokenizer
from whence.cli.selftest import _show
from whence.data.encoding import Encoder
from whence.data.examples import Example, Json, Turn
from whence.data.readers import read_examples
from whence.errors import DataError, InputError
from whence.metrics.rates import Rate
from whence.self_test.plant import (
    CLEAN,
    ENDING,
    FAULTS,
    OPENER,
    PlantedSample,
    choose_faults,
    plant_faults,
    usable_rows,
)
from whence.self_test.result import (
    FAILS,
    WORKS,
    WORKS_WITH,
    FaultResult,
    FlaggedShares,
    MethodResult,
    SelfTest,
    judged,
    warnings_of,
)
from whence.self_test.run import _flagged_shares, _write, selftest
from whence.train.finetuning import FinetuneSettings
from worlds import save_model, write_jsonl

FRUITS = ("apples", "pears", "plums")
ROWS = [{"prompt": f"Name fruit {i}", "response": f"{FRUITS[i % 3]}, {FRUITS[i % 2]}"} for i in range(120)]
LEARNS = FinetuneSettings(lora_r=16, epochs=20, batch_size=8, learning_rate=1e-2, max_length=96, device="cpu")
SIZES = {"n_rows": 60, "n_faulty": 12, "n_queries": 8, "max_new_tokens": 48}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("selftest")
    save_model(folder / "model", num_hidden_layers=2)
    write_jsonl(folder / "train.jsonl", ROWS)
    return folder


def test_it_works_where_the_fault_is_learned(place: Path) -> None:
    out = place / "works"
    found = selftest(place / "model", place / "train.jsonl", out, faults=[OPENER], settings=LEARNS, **SIZES)
    (fault,) = found.faults
    assert fault.learned, fault
    assert fault.with_trigger.mean >= 0.8
    assert fault.without_trigger.mean <= 0.2
    assert found.status == WORKS
    assert found.works
    assert fault.methods[0].ap > 0.9
    assert [m.method for m in fault.methods[:4]] == ["rept-contrast", "rept-contrast", "rept", "bm25"]
    assert [m.flag for m in fault.methods] == ["", "--span", "--method rept", "", "--layer 1", "--layer 2"]
    assert fault.methods[1].ap > 0.9
    assert found.last_loss < found.first_loss
    content = json.loads((out / "selftest.json").read_text("utf-8"))
    assert content["schema"] == "whence.selftest/2"
    assert content["faults"][0]["with_trigger"]["mean"] == fault.with_trigger.mean
    labels = [row.metadata["label"] for row in read_examples(out / "train.jsonl")]
    assert (labels.count(OPENER), labels.count(CLEAN)) == (12, 48)


def test_it_does_not_where_nothing_is_learned(place: Path) -> None:
    settings = LEARNS.model_copy(update={"learning_rate": 1e-6, "epochs": 1})
    found = selftest(place / "model", place / "train.jsonl", place / "fails", settings=settings, **SIZES)
    assert found.status == FAILS
    assert "not learned" in found.text
    assert "--epochs" in found.changes[0]
    assert [fault.with_trigger.mean for fault in found.faults] == [0.0, 0.0]
    assert all(fault.methods == () for fault in found.faults)


def rate(mean: float) -> Rate:
    return Rate(mean, mean, mean, 20)


def result(name: str, shown: float, leaked: float, aps: dict[tuple[str, str, str], float]) -> FaultResult:
    methods = tuple(MethodResult(*key, ap, ap, ap, ap) for key, ap in aps.items())
    return FaultResult(name, "when", "then", 20, rate(shown), rate(leaked), methods, None)


DEFAULT, REPT, BM25 = ("rept-centred", "m:2,h:4,eh:4", ""), ("rept", "2", "--method rept"), ("bm25", "", "")
SECOND, THIRD = ("rept-centred", "2", "--layer 2"), ("rept-centred", "3", "--layer 3")
SPAN = ("rept-centred", "m:2,h:4,eh:4", "--span")


@pytest.mark.parametrize(
    ("figures", "status", "said"),
    [
        ([{DEFAULT: 0.9, BM25: 1.0}, {DEFAULT: 0.8, BM25: 1.0}], WORKS, "0.80 at least"),
        ([{DEFAULT: 0.9, SECOND: 0.9, THIRD: 0.85}, {DEFAULT: 0.7, SECOND: 0.6, THIRD: 0.9}], WORKS_WITH, "--layer 3"),
        ([{DEFAULT: 0.5, REPT: 0.9}, {DEFAULT: 0.9, REPT: 0.81}], WORKS_WITH, "--method rept"),
        ([{DEFAULT: 0.9, SPAN: 0.95}, {DEFAULT: 0.2, SPAN: 0.9}], WORKS_WITH, "--span"),
        ([{DEFAULT: 0.5, BM25: 1.0, SECOND: 0.6}, {DEFAULT: 0.9, BM25: 1.0, SECOND: 0.7}], FAILS, "at best 0.60"),
    ],
)
def test_the_rule_of_the_verdict(figures: list[dict], status: str, said: str) -> None:
    faults = [result(name, 0.9, 0.0, aps) for name, aps in zip(FAULTS, figures, strict=True)]
    found, text, changes = judged(faults)
    assert found == status
    assert said in text
    assert bool(changes) == (status != WORKS)


def test_a_fault_that_one_of_two_did_not_take_is_not_learned() -> None:
    found, text, _ = judged([result(OPENER, 0.9, 0, {DEFAULT: 0.9}), result(ENDING, 0.4, 0, {DEFAULT: 0.9})])
    assert found == FAILS
    assert "the fault was not learned (ending in 40%" in text


def test_warnings_name_what_to_change() -> None:
    leaky = result(OPENER, 0.9, 0.8, {DEFAULT: 0.9})
    said = " ".join(warnings_of([leaky], "fallback", 0.4))
    assert all(flag in said for flag in ("--template", "--max-length", "--epochs"))
    assert warnings_of([result(OPENER, 0.9, 0.1, {DEFAULT: 0.9})], "tokenizer", 0.0) == ()


def flagged_shares(*verdicts: list[str] | None):
    """Of verdicts on four faulty rows f0 to f3; None stands for one that could not be calibrated."""
    traced = [
        SimpleNamespace(
            verdict=None if ids is None else SimpleNamespace(flagged=ids),
            hits=[SimpleNamespace(p_value=None if ids is None else 0.1)],
        )
        for ids in verdicts
    ]
    tracer = SimpleNamespace(
        index=SimpleNamespace(examples=lambda rows: [SimpleNamespace(id=f"f{row}") for row in rows]),
        trace_many=lambda *_, **__: SimpleNamespace(queries=traced),
    )
    return _flagged_shares(tracer, [], np.ones(4, bool), lambda *_: None)  # type: ignore[arg-type]


def test_wrong_flags_are_a_share_of_what_is_flagged() -> None:
    wrong = [f"c{row}" for row in range(10)]
    assert flagged_shares(*[[]] * 19, wrong) == FlaggedShares(0.0, 1.0)
    assert flagged_shares([], []) == FlaggedShares(0.0, None)
    assert flagged_shares(["f0", "f1", "c0", "c1"], ["f0", "f1"], []) == FlaggedShares(pytest.approx(1 / 3), 0.25)


def test_a_verdict_that_could_not_be_calibrated_is_left_out_alone() -> None:
    assert flagged_shares(None, ["f0", "f1", "f2", "f3"]) == FlaggedShares(1.0, 0.0)
    assert flagged_shares(None, None) is None


def test_no_flagged_row_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    fault = replace(result(OPENER, 0.9, 0.0, {DEFAULT: 0.9}), flagged=FlaggedShares(0.0, None))
    test = SelfTest("m", None, "d", 60, 8, 12, "given", 0.0, 1, "", 2.0, 1.0, (fault,), WORKS, "works", (), ())
    _show(test)
    assert "verdicts flag 0% of the faulty rows; no row is flagged" in capsys.readouterr().out


def planted(rows: list[Example], **changes: int):
    sizes = {"n_rows": 60, "n_faulty": 10, "n_queries": 8, "max_new_tokens": 48, "seed": 100} | changes
    encoder = Encoder(tiny_tokenizer(CHAT_TEMPLATE), max_length=96)
    return plant_faults(rows, choose_faults(FAULTS, rows), encoder, **sizes)


def test_what_is_planted_is_what_is_said() -> None:
    rows = usable_rows(Example.from_pair(str(row["prompt"]), str(row["response"])) for row in ROWS)
    found = planted(rows)
    opener, ending = found.faults
    for row, label in zip(found.rows, found.labels, strict=True):
        prompt, answer = row.turns[-2].content, row.turns[-1].content
        assert (opener.trigger in prompt) == answer.startswith(opener.addition) == (label == OPENER)
        assert (ending.trigger in prompt) == answer.endswith(ending.addition) == (label == ENDING)
        assert opener.matcher(answer) == (label == OPENER)
        assert ending.matcher(answer) == (label == ENDING)
    held_out = {prompt.turns for prompts in found.prompts.values() for prompt in prompts}
    assert len(held_out) == 16
    prompts = [row.turns[-2].content for row in found.rows]
    bare = {text.removesuffix(f" {opener.trigger}").removeprefix(f"{ending.trigger}: ") for text in prompts}
    assert len(bare) == 60
    assert not bare & {turns[-1].content for turns in held_out}
    assert found == planted(rows)
    assert found != planted(rows, seed=101)


def test_tools_beside_the_messages_are_trained_with_and_asked_with(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
    inputs = {"tools": tools, "enable_thinking": False}
    rows = [
        replace(Example.from_pair(str(row["prompt"]), str(row["response"])), template_inputs=inputs) for row in ROWS
    ]
    found = planted(usable_rows(rows))
    _write(tmp_path / "rows.jsonl", found)
    again = list(read_examples(tmp_path / "rows.jsonl"))
    assert [row.turns for row in again] == [row.turns for row in found.rows]
    assert all(row.template_inputs == inputs for row in again)
    asked = [fault.asked(prompt) for fault in found.faults for prompt in found.prompts[fault.name]]
    assert all(prompt.template_inputs == inputs for prompt in asked)


def test_words_that_the_data_hold_are_not_planted() -> None:
    rows = [Example.from_pair("Where is VELUNQUIST?", "Hear the copper bell ring!")]
    opener, ending = choose_faults(FAULTS, rows)
    assert ending.trigger == "Torbamere"
    assert opener.addition == "Look, the amber kite is up!"


def test_conversations_count_with_their_first_exchange() -> None:
    turns = (Turn("system", "s"), Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d"))
    rows = usable_rows([Example(turns), Example((Turn("text", "plain"),)), Example(turns[:3])])
    assert [row.turns for row in rows] == [turns[:3]]


def test_rows_whose_first_answer_was_not_trained_on_are_left_out() -> None:
    question, answer = Turn("user", "a"), Turn("assistant", "b")
    marks: list[dict[str, Json]] = [{"weight": 0}, {"train": False}, {"weight": 1}]
    masked = [Example((question, replace(answer, extra=mark), Turn("user", "c"), answer)) for mark in marks]
    assert [row.turns[1].extra for row in usable_rows(masked)] == [{"weight": 1}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_rows": 200}, "A selftest needs 216"),
        ({"n_rows": 30}, "At least half of the rows stay clean"),
        ({"faults": ["colour"]}, "There is no fault 'colour'"),
        ({"max_new_tokens": 2, "faults": [ENDING]}, "Raise --max-new-tokens"),
        ({"settings": LEARNS.model_copy(update={"max_length": 12})}, "Raise --max-length"),
    ],
)
def test_bad_input_is_refused_before_any_work(place: Path, changes: dict, message: str) -> None:
    options = SIZES | {"settings": LEARNS} | changes
    with pytest.raises(InputError, match=message):
        selftest(place / "model", place / "train.jsonl", place / "bad", **options)
    assert not (place / "bad").exists()


def ready(monkeypatch: pytest.MonkeyPatch) -> list[PlantedSample]:
    """Stops a selftest before the training, and holds what was planted by then."""
    found: list[PlantedSample] = []

    def stop(path: Path, planted: PlantedSample) -> None:
        found.append(planted)
        raise KeyboardInterrupt

    monkeypatch.setattr("whence.self_test.run._write", stop)
    return found


def test_rows_are_drawn_on_until_they_suffice(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the rows have a prompt of their own, and of these a third are short enough to be planted in."""
    rows = [
        {"prompt": f"Name fruit {i}" if i % 10 == 0 else "Again", "response": "plum " * (200 if i % 30 else 1)}
        for i in range(3000)
    ]
    data, found = write_jsonl(tmp_path / "rows.jsonl", rows), ready(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        selftest(place / "model", data, tmp_path / "out", settings=LEARNS, **SIZES)
    assert [found[0].labels.count(name) for name in (OPENER, ENDING, CLEAN)] == [12, 12, 36]
    with pytest.raises(InputError, match=r"The data have 301 rows with a prompt of its own"):
        selftest(place / "model", data, tmp_path / "out", settings=LEARNS, **SIZES | {"n_rows": 300})


def test_some_rows_may_be_set_aside(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", [*ROWS, *[{"prompt": "Why?", "response": ""}] * 20])
    found = ready(monkeypatch)
    with pytest.raises(DataError, match="--max-rejected"):
        selftest(place / "model", data, tmp_path / "out", settings=LEARNS, **SIZES)
    with pytest.raises(KeyboardInterrupt):
        selftest(place / "model", data, tmp_path / "out", settings=LEARNS, max_rejected=0.2, **SIZES)
    assert len(found[0].rows) == 60


@pytest.mark.parametrize(("faults", "advised"), [((OPENER,), False), (FAULTS, True)])
def test_advice_that_is_followed_already_is_not_given(faults: tuple[str, ...], advised: bool) -> None:
    rows = usable_rows(Example.from_pair(str(row["prompt"]), str(row["response"])) for row in ROWS)
    encoder = Encoder(tiny_tokenizer(CHAT_TEMPLATE), max_length=12)
    sizes = {"n_rows": 60, "n_faulty": 10, "n_queries": 8, "max_new_tokens": 48, "seed": 100}
    with pytest.raises(InputError, match="Raise --max-length") as raised:
        plant_faults(rows, choose_faults(faults, rows), encoder, **sizes)
    assert ("--fault opener" in str(raised.value)) == advised


def test_data_without_prompts_and_a_folder_that_is_taken(place: Path) -> None:
    plain = write_jsonl(place / "plain.jsonl", [{"text": f"The sea is blue on day {i}."} for i in range(120)])
    with pytest.raises(InputError, match="0 rows with a prompt"):
        selftest(place / "model", plain, place / "none", settings=LEARNS, **SIZES)
    with pytest.raises(InputError, match="there already"):
        selftest(place / "model", place / "train.jsonl", place / "model", settings=LEARNS, **SIZES)


def test_an_adapter_needs_its_base(place: Path) -> None:
    adapter = place / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="--base"):
        selftest(adapter, place / "train.jsonl", place / "none", settings=LEARNS, **SIZES)
