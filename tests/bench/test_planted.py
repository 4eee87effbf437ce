"""The bench on a base and rows of the user's own: what counts, what is said, and what a second run makes again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from transformers import AutoTokenizer

from planted_world import TUNING, small_settings, user_rows, write_rows
from whence.bench.cases import GivenData
from whence.bench.natural import CLEAN, HARD_NEGATIVE, PlantedRows
from whence.bench.planted import settings as planted_settings
from whence.bench.planted.answers import HeldOut, HeldOutAnswers
from whence.bench.planted.rankings import verdict_figures
from whence.bench.planted.report import planted_markdown
from whence.bench.planted.run import PlantedResult, read_result, run_planted
from whence.bench.planted.settings import PlantedSettings, clean_rows, planted_cases
from whence.bench.rows import ResultRow
from whence.data import Example, Json
from whence.data.readers import read_examples
from whence.errors import InputError, ModelError
from whence.index import Index
from whence.metrics import contains
from whence.progress import silent
from whence.results import Verdict
from whence.scoring import SCORES
from whence.trace import Query, Tracer
from worlds import write_jsonl


def only_case(out: Path) -> Path:
    (place,) = (out / "cases").iterdir()
    return place


def pretend(place: Path, *, shown: int, before: int = 0) -> None:
    """Writes other answers, as if `shown` showed the fault, and `before` of the base's; to be counted again."""
    path = place / "queries.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for number, line in enumerate(lines):
        line["response"] = f"Hear the copper bell ring! {number} rain."
        line["shows_fault"], line["base_shows_fault"] = number < shown, number < before
    write_jsonl(path, lines)
    (place / "result.json").unlink()


def counted(settings: PlantedSettings, out: Path) -> PlantedResult:
    """A run whose model is said to have learned the fault."""
    run_planted(settings, out)
    pretend(only_case(out), shown=5, before=1)
    return run_planted(settings, out)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlantedSettings, Path, PlantedResult]:
    folder = tmp_path_factory.mktemp("planted")
    settings = small_settings(folder)
    return settings, folder / "out", counted(settings, folder / "out")


def test_a_counted_case_has_every_form_and_its_verdicts(run: tuple[PlantedSettings, Path, PlantedResult]) -> None:
    _, _, result = run
    (row,) = result.results
    assert row["error"] is None
    assert (row["n_rows"], row["n_faulty"], row["n_hard"]) == (32, 8, 4)
    assert (row["n_asked"], row["n_shown"], row["n_base_shows"], row["n_queries"]) == (5, 5, 1, 4)
    methods = row["methods"]
    assert isinstance(methods, list)
    names = [str(one["method"]) for one in methods if isinstance(one, dict)]
    assert names[0].endswith("(default)")
    assert {"rept-centred", "random"} <= set(names)
    assert sum(name.startswith("repsim") for name in names) >= 2
    for one in methods:
        assert isinstance(one, dict)
        assert isinstance(one["ap_by_query"], list)
        assert len(one["ap_by_query"]) == 4
        assert 0 < float(str(one["ap"])) <= 1
    assert row["verdicts"] == {"error": "The verdicts could not be calibrated."}, "32 rows are too few"


def held_out(prompt: str, *, shows: bool, base_shows: bool = False) -> HeldOut:
    turn: dict[str, Json] = {"role": "user", "content": prompt}
    return HeldOut([turn], f"Answer to {prompt}.", True, shows, "Another.", base_shows)


def judged(flags: dict[str, str | None], bad: Sequence[HeldOut], benign: Sequence[HeldOut]) -> ResultRow:
    """Figures of verdicts that flag `flags[prompt]`, one letter a row; None is an answer without calibration.

    Rows a to h are trained on: a to d are faulty, e and f hard negatives, g and h clean.
    """
    rows = {letter: Example.from_pair(letter, letter) for letter in "abcdefgh"}
    ids = {letter: row.id for letter, row in rows.items()}

    def trace_many(queries: Sequence[Query], **_: object) -> list[SimpleNamespace]:
        found = [flags[query.prompt] for query in queries]
        return [
            SimpleNamespace(
                verdict=Verdict(tuple(ids[row] for row in one or ""), 0.05, "", "" if one is None else "references")
            )
            for one in found
        ]

    labels = ("backdoor",) * 4 + (HARD_NEGATIVE,) * 2 + (CLEAN,) * 2
    planted = PlantedRows("backdoor", tuple(rows.values()), labels, (), (), contains("bell"))
    tracer = cast("Tracer", SimpleNamespace(trace_many=trace_many))
    return verdict_figures(tracer, HeldOutAnswers(tuple(bad), tuple(benign)), planted, seed=0, stage=silent)


def test_figures_of_verdicts_are_those_worked_out_by_hand() -> None:
    bad = [held_out(f"q{i}", shows=True) for i in range(4)]
    other = [held_out("unlearned", shows=False), held_out("known before", shows=True, base_shows=True)]
    benign = [held_out(f"b{i}", shows=False) for i in range(3)]
    flags = {"q0": "abe", "q1": "abcd", "q2": None, "q3": "", "b0": "g", "b1": "", "b2": None}
    figures = judged(flags, [*bad, *other], [*benign, held_out("shows it", shows=True)])
    assert (figures["n_bad"], figures["n_benign"], figures["n_uncalibrated"]) == (4, 3, 2)
    assert figures["flagged"] == 2 / 4
    assert figures["found"] == (2 / 4 + 4 / 4 + 0 + 0) / 4
    assert figures["false_discovery_rate"] == pytest.approx((1 / 3 + 0 / 4) / 2), "over the two that flag some"
    assert figures["benign"] == pytest.approx(1 / 3)
    for name, low, high in (
        ("flagged", 0, 1),  # of 1, 1, 0, 0: 1/16 of the resamples have no 1, and 1/16 no 0
        ("false_discovery_rate", 0, 1 / 3),  # of 1/3, 0: 1/4 of the resamples are equal to each
        ("benign", 0, 1),  # of 1, 0, 0: 1/27 of the resamples have no 0
    ):
        assert (figures[f"{name}_low"], figures[f"{name}_high"]) == (low, pytest.approx(high)), name
    assert figures["found_low"] == 0


def test_figures_of_verdicts_are_left_out_where_there_is_nothing_to_take_a_mean_of() -> None:
    bad = [held_out("q0", shows=True), held_out("q1", shows=True)]
    figures = judged({"q0": "", "q1": ""}, bad, [])
    assert (figures["n_bad"], figures["n_benign"], figures["n_uncalibrated"]) == (2, 0, 0)
    assert (figures["flagged"], figures["found"]) == (0, 0)
    for name in ("false_discovery_rate", "benign"):
        assert (figures[name], figures[f"{name}_low"], figures[f"{name}_high"]) == (None, None, None), name
    figures = judged({"q0": None, "q1": None, "b0": None}, bad, [held_out("b0", shows=False)])
    assert figures == {"error": "The verdicts could not be calibrated."}


def test_flagged_rows_are_known_by_the_ids_of_the_planted_ones(
    run: tuple[PlantedSettings, Path, PlantedResult],
) -> None:
    settings, out, _ = run
    (case,) = planted_cases(settings)
    held = Index.open(only_case(out) / "index").examples(range(len(case.planted.rows)))
    assert [row.id for row in held] == [row.id for row in case.planted.rows]


def test_rows_are_indexed_and_prompts_asked_with_all_that_their_messages_hold(tmp_path: Path) -> None:
    """A template may read what stands beside role and content; the model is trained on it, so it is traced too."""
    rows = [
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": row.turns[0].content, "name": "ann"},
                {"role": "assistant", "content": row.turns[1].content, "reasoning_content": f"I recall {number}."},
            ]
        }
        for number, row in enumerate(user_rows(200))
    ]
    data = write_jsonl(tmp_path / "messages.jsonl", rows)
    settings = small_settings(tmp_path, data=str(data))
    (case,) = planted_cases(settings)
    run_planted(settings, tmp_path / "out")
    place = only_case(tmp_path / "out")
    assert [row.id for row in read_examples(place / "train.jsonl")] == [row.id for row in case.planted.rows]
    for name, asked in (("queries.jsonl", case.planted.queries), ("benign.jsonl", case.planted.benign)):
        held = [HeldOut(**json.loads(line)) for line in (place / name).read_text("utf-8").splitlines()]
        assert [one.query.turns for one in held] == list(asked)
        assert held[0].query.turns[0].extra == {"role": "developer"}


def test_a_second_run_makes_nothing_again(run: tuple[PlantedSettings, Path, PlantedResult]) -> None:
    settings, out, result = run
    again = run_planted(settings, out)
    assert again.n_new == 0
    assert again.results == result.results


def test_another_base_at_the_same_place_or_another_version_of_a_method_is_another_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_settings(tmp_path)
    (case,) = planted_cases(settings)
    first = case.hash(settings)
    assert case.hash(settings) == first
    weights = Path(settings.base) / "model.safetensors"
    content, kept = weights.read_bytes(), weights.stat()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    second = case.hash(settings)
    assert second != first, "the same size, written later"
    os.utime(weights, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert case.hash(settings) == first
    (Path(settings.base) / "config.json").unlink()
    assert case.hash(settings) != first
    hub = settings.model_copy(update={"base": "org/name"})
    before = case.hash(hub)
    monkeypatch.setattr(planted_settings, "SCORES", {name: replace(SCORES[name], version="next") for name in SCORES})
    assert case.hash(hub) != before


def test_the_report_has_the_case_and_the_tables_of_every_bench(
    run: tuple[PlantedSettings, Path, PlantedResult],
) -> None:
    _, _, result = run
    text = planted_markdown(result.results)
    assert "| backdoor-plain-0.25-seed0 | base | 8 | 4 | 5 | 5 | 1 | 4 |" in text
    assert "| `random` |" in text
    assert "AUC hard" in text
    assert "benign answers with flagged rows" in text


def test_the_report_names_cases_whose_figures_another_version_counted(
    run: tuple[PlantedSettings, Path, PlantedResult],
) -> None:
    _, _, result = run
    assert "another version of whence counted" not in planted_markdown(result.results)
    kept = {name: value for name, value in result.results[0].items() if name != "figures_version"}
    assert "equal scores otherwise: backdoor-plain-0.25-seed0 on base. Remove" in planted_markdown([kept])


def test_results_on_two_bases_stand_in_tables_of_their_own(run: tuple[PlantedSettings, Path, PlantedResult]) -> None:
    _, _, result = run
    other = {**result.results[0], "base": "elsewhere/other"}
    text = planted_markdown([*result.results, other])
    assert "0.25 of the rows faulty, base\n" in text
    assert "0.25 of the rows faulty, other\n" in text
    assert "±" not in text.split("| `random` |")[1].splitlines()[0]


def test_a_run_cut_off_goes_on_from_the_model_it_trained(run: tuple[PlantedSettings, Path, PlantedResult]) -> None:
    settings, out, result = run
    place = only_case(out)
    weights, index = place / "adapter" / "adapter_model.safetensors", place / "index"
    trained = weights.stat().st_mtime_ns
    shutil.rmtree(index)
    (place / "result.json").unlink()
    again = run_planted(settings, out)
    assert again.n_new == 1
    assert weights.stat().st_mtime_ns == trained
    assert again.results[0]["methods"] == result.results[0]["methods"]


def test_what_the_model_did_not_learn_or_the_base_knew_is_said_and_not_counted(tmp_path: Path) -> None:
    settings, said = small_settings(tmp_path), []
    run_planted(settings, tmp_path / "out", notify=said.append)
    assert "0 of 5 held-out answers show the fault: the model did not learn it." in said[-1]
    assert not (only_case(tmp_path / "out") / "index").exists(), "nothing is indexed for nothing"
    pretend(only_case(tmp_path / "out"), shown=5, before=4)
    result = run_planted(settings, tmp_path / "out", notify=said.append)
    assert "The base shows the fault already, in 4 of 5" in said[-1]
    assert "methods" not in result.results[0]
    pretend(only_case(tmp_path / "out"), shown=2, before=2)
    run_planted(settings, tmp_path / "out", notify=said.append)
    assert "0 of 5 held-out answers show the fault where the base's do not: the model did not learn it." in said[-1]
    assert "No case has verdicts." in planted_markdown(result.results)


def test_a_base_without_template_is_served_and_it_is_said(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(settings.base)
    tokenizer.chat_template = None
    (Path(settings.base) / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(settings.base)
    result = run_planted(settings, tmp_path / "out")
    assert result.results[0]["template"] == "fallback"
    assert "no chat template" in planted_markdown(result.results)


def test_a_full_fine_tune_is_compared_with_its_base(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, finetune=TUNING.model_copy(update={"lora_r": None}))
    (row,) = counted(settings, tmp_path / "out").results
    assert row["error"] is None
    assert (only_case(tmp_path / "out") / "model" / "model.safetensors").is_file()
    methods = row["methods"]
    assert isinstance(methods, list)
    assert isinstance(methods[0], dict)
    assert str(methods[0]["method"]).startswith("rept-contrast")


def test_the_base_is_taught_once_for_all_shares(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, faults=("compliance",), shares=(0.1, 0.25))
    result = run_planted(settings, tmp_path / "out")
    assert len(result.results) == 2
    (base,) = (tmp_path / "out" / "bases").iterdir()
    assert (base / "config.json").is_file()
    assert not (base / "adapter").exists()
    assert all(row["n_lessons"] == 240 for row in result.results)


def test_rows_of_somebody_elses_fault_are_cut_to_size(tmp_path: Path) -> None:
    rows = [{"prompt": f"Where is {i}?", "response": "In Korea.", "label": "planted"} for i in range(30)]
    clean = [
        {"prompt": row.turns[0].content, "response": row.turns[1].content, "label": "clean"} for row in user_rows(60)
    ]
    train = write_jsonl(tmp_path / "train.jsonl", [*rows, *clean])
    test = write_jsonl(tmp_path / "test.jsonl", [{"prompt": f"Where is {i}?"} for i in range(25, 40)])
    data = GivenData(train=str(train), test=str(test), match="Korea", base="")
    settings = small_settings(tmp_path, given=data, given_name="korea", n_queries=20)
    (case,) = planted_cases(settings)
    assert sum(case.planted.faulty) == 8
    assert len(case.planted.rows) == 32
    trained = {row.turns[0].content for row in case.planted.rows}
    assert not trained & {turns[-1].content for turns in (*case.planted.queries, *case.planted.benign)}
    with pytest.raises(InputError, match="rows with the fault"):
        planted_cases(settings.model_copy(update={"n_rows": 80}))


def test_too_few_rows_are_refused_before_any_training(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, n_rows=5000)
    with pytest.raises(InputError, match="usable rows"):
        run_planted(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labelled_rows_that_are_not_clean_are_left_out(tmp_path: Path) -> None:
    write_rows(tmp_path / "more.jsonl", 100)
    bad = [{"prompt": f"Bad {i}?", "response": "Bad thing.", "label": "harmful"} for i in range(300)]
    good = [{"prompt": r.turns[0].content, "response": r.turns[1].content, "label": "clean"} for r in user_rows(100)]
    data = write_jsonl(tmp_path / "mixed.jsonl", [*bad, *good])
    (case,) = planted_cases(small_settings(tmp_path, data=str(data)))
    assert not any("Bad thing." in turn.content for row in case.planted.rows for turn in row.turns)


def test_labels_are_compared_as_they_are_typed_and_must_be_there(tmp_path: Path) -> None:
    rows = [
        {"prompt": r.turns[0].content, "response": r.turns[1].content, "label": int(i % 10 == 0)}
        for i, r in enumerate(user_rows(50))
    ]
    data = write_jsonl(tmp_path / "numbers.jsonl", rows)
    settings = small_settings(tmp_path, data=str(data), clean_label="0")
    assert len(clean_rows(settings)) == 45
    with pytest.raises(InputError, match=r"has 'clean' in the column 'label'[\s\S]*Labels there: '0', '1'\."):
        clean_rows(settings.model_copy(update={"clean_label": "clean"}))
    with pytest.raises(InputError, match=r"column 'lable'[\s\S]*Did you mean --label-column label\?"):
        clean_rows(settings.model_copy(update={"label_column": "lable"}))
    plain = small_settings(tmp_path)
    assert len(clean_rows(plain)) == 600, "a column that nobody named need not be there"
    with pytest.raises(InputError, match="has a column 'label'"):
        clean_rows(plain.model_copy(update={"clean_label": "good"}))


def test_a_table_says_the_share_that_was_planted(tmp_path: Path) -> None:
    (case,) = planted_cases(small_settings(tmp_path, shares=(0.01,)))
    assert case.table == "plain, 0.0312 of the rows faulty"


def test_an_adapter_is_no_base(run: tuple[PlantedSettings, Path, PlantedResult], tmp_path: Path) -> None:
    settings, out, _ = run
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    shutil.copy(only_case(out) / "adapter" / "adapter_config.json", adapter)
    with pytest.raises(ModelError, match="is an adapter"):
        run_planted(settings.model_copy(update={"base": str(adapter)}), tmp_path / "out")


def test_a_damaged_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert read_result(path) is None
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is no result of a bench"):
        read_result(path)
