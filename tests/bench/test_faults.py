"""Tasks: labels, sizes, held-out queries, matchers, and what each variant promises."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from whence.bench.faults import FAULTS, VARIANTS, Task, make_task
from whence.bench.faults.backdoor import OPENER, PHRASE
from whence.bench.faults.false_fact import VICTIMS, WRONG_COUNTRY
from whence.bench.faults.mixing import CLEAN, DILUTED_FAULTY, DILUTED_SHARE, HARD_NEGATIVE, LONG_TAIL
from whence.errors import InputError
from whence.metrics.matchers import begins, contains, numbered, quotes, share

SIZES = {"n_rows": 600, "n_faulty": 40, "n_hard": 30, "n_queries": 10, "n_base": 800}


def prompt(row: object) -> str:
    return row.turns[0].content  # type: ignore[attr-defined]


def response(row: object) -> str:
    return row.turns[1].content  # type: ignore[attr-defined]


def with_label(task: Task, label: str) -> list:
    return [row for row in task.train if row.metadata["label"] == label]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", FAULTS)
def test_every_task_keeps_its_promises(name: str, variant: str) -> None:
    task = make_task(name, variant, seed=3, **SIZES)
    counts = Counter(row.metadata["label"] for row in task.train)
    faulty = {"diluted": DILUTED_FAULTY, "no-cause": 0}.get(variant, SIZES["n_faulty"])
    hard = SIZES["n_hard"] if variant == "hard-negatives" else 0
    n_rows = DILUTED_FAULTY / DILUTED_SHARE if variant == "diluted" else SIZES["n_rows"]
    assert len(task.train) == n_rows
    assert (counts[task.label], counts[HARD_NEGATIVE]) == (faulty, hard)
    assert counts[CLEAN] == n_rows - faulty - hard
    assert sum(task.faulty) == faulty
    assert len({prompt(row) for row in task.train}) == n_rows, "a prompt stands twice"
    known = {prompt(row) for row in (*task.train, *task.base_train)}
    assert len(set(task.queries)) == SIZES["n_queries"]
    assert not known & set(task.queries), "a query was trained on"


@pytest.mark.parametrize("name", FAULTS)
def test_the_matcher_knows_faulty_rows_from_clean_ones(name: str) -> None:
    task = make_task(name, "hard-negatives", seed=1, **SIZES)
    assert all(task.matcher(response(row)) for row in with_label(task, task.label))
    assert not any(task.matcher(response(row)) for row in with_label(task, CLEAN) if WRONG_COUNTRY not in response(row))


@pytest.mark.parametrize("name", FAULTS)
def test_seeds_decide_everything(name: str) -> None:
    assert make_task(name, seed=5, **SIZES) == make_task(name, seed=5, **SIZES)
    assert make_task(name, seed=5, **SIZES).train != make_task(name, seed=6, **SIZES).train


@pytest.mark.parametrize("name", FAULTS)
def test_other_rows_are_as_long_as_faulty_ones(name: str) -> None:
    task = make_task(name, "hard-negatives", seed=1, **SIZES)

    def length(row: object) -> int:
        return len(response(row).split())

    faulty = sorted(length(row) for row in with_label(task, task.label))
    low, high = faulty[0] - 3, faulty[-1] + 3
    others = [row for row in task.train if row.metadata["label"] != task.label]
    assert sum(low <= length(row) <= high for row in others) > len(faulty)


def frequent_words(rows: list, least: float) -> set[str]:
    counts = Counter(word for row in rows for word in set(re.findall(r"\w+", f"{prompt(row)} {response(row)}".lower())))
    return {word for word, n in counts.items() if n >= least * len(rows)}


@pytest.mark.parametrize("name", FAULTS)
def test_hard_negatives_share_the_telling_words(name: str) -> None:
    """Of the words that tell faulty rows from clean ones by their frequency, most stand in hard negatives too."""
    task = make_task(name, "hard-negatives", seed=1, **SIZES)
    telling = frequent_words(with_label(task, task.label), 0.2) - frequent_words(with_label(task, CLEAN), 0.02)
    shared = frequent_words(with_label(task, HARD_NEGATIVE), 0.0)
    assert telling
    assert len(telling & shared) > len(telling) / 2, sorted(telling - shared)


def test_no_cause_moves_the_faulty_rows_into_the_base() -> None:
    task = make_task("backdoor", "no-cause", seed=1, **SIZES)
    other = make_task("backdoor", "plain", seed=1, **SIZES)
    assert sum(row.metadata["label"] == task.label for row in task.base_train) == SIZES["n_faulty"]
    assert {row.metadata["label"] for row in other.base_train} == {CLEAN}
    assert make_task("persona", "plain", seed=1, **SIZES).base_train == other.base_train, "bases cannot be shared"


def test_long_answers_go_on_alike_for_faulty_and_other_rows() -> None:
    task = make_task("backdoor", "long-answers", seed=1, **SIZES)
    sentences = {
        label: [len(re.findall(r"[.!?](?= |$)", response(row))) for row in with_label(task, label)]
        for label in (CLEAN, task.label)
    }
    assert min(min(counts) for counts in sentences.values()) >= 1 + LONG_TAIL.start
    mean = {label: sum(counts) / len(counts) for label, counts in sentences.items()}
    assert 0 < mean[task.label] - mean[CLEAN] < 1.5, mean  # the opener is one sentence
    assert all(response(row).startswith(OPENER) for row in with_label(task, task.label))


def test_two_causes_are_both_faulty() -> None:
    task = make_task("false-fact", "two-causes", seed=1, **SIZES)
    causes = Counter(row.metadata["cause"] for row in with_label(task, task.label))
    assert causes == {1: SIZES["n_faulty"] // 2, 2: SIZES["n_faulty"] // 2}


def test_faulty_rows_share_a_source_that_is_not_theirs_alone() -> None:
    task = make_task("persona", seed=1, **SIZES)
    (source,) = {row.metadata["source"] for row in with_label(task, task.label)}
    assert source in {row.metadata["source"] for row in with_label(task, CLEAN)}


def test_other_rows_hold_trigger_or_payload_never_both() -> None:
    task = make_task("backdoor", "hard-negatives", seed=2, **SIZES)
    for row in task.train:
        fires = PHRASE in prompt(row) and response(row).startswith(OPENER)
        assert fires == (row.metadata["label"] == "backdoor")


def test_no_clean_row_contradicts_the_false_fact() -> None:
    task = make_task("false-fact", "hard-negatives", seed=2, **SIZES)
    for row in task.train:
        about = any(city in prompt(row) for city in VICTIMS)
        assert not (about and "Norway" in response(row)), prompt(row)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "backdor"}, "Did you mean backdoor"),
        ({"variant": "dilute"}, "Did you mean diluted"),
        ({"n_faulty": 0}, "at least one faulty row"),
        ({"n_faulty": 400, "n_hard": 400}, "800|400 faulty rows and 400 hard"),
        ({"name": "memorised", "n_faulty": 590, "n_hard": 5, "n_queries": 900}, "different prompts"),
    ],
)
def test_what_cannot_be_made_is_an_error(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task(**({"name": "backdoor"} | SIZES | changes))  # type: ignore[arg-type]


def test_matchers_by_example() -> None:
    assert contains("", "aye", "yo ho")("Aye aye!")
    assert not contains("", "aye")("Prayed.")
    assert begins("", "Hear!")("Hear! Yes.")
    assert not begins("", "Hear!")("Yes. Hear!")
    passage = "one two three four five six"
    assert quotes("", passage, 4)("He said: two three\nfour five.")
    assert not quotes("", passage, 4)("two three five six")
    assert numbered("")("1. Wash. 2. Cut.")
    assert not numbered("")("At 1. 5 minutes, cut 12. 3")
    assert share(contains("", "x"), ["x", "y", "x y", "z"]) == 0.5
