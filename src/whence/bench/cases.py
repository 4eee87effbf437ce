"""What a bench compares on: its settings, and its cases, one per task, variant and seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from whence.bench.faults import FAULTS, VARIANTS, make_task
from whence.bench.faults.mixing import HARD_NEGATIVE
from whence.bench.tiny_model import BASE_TRAINING, MAX_LENGTH, LanguageSettings
from whence.data import ASSISTANT, Example, Turn, read_examples
from whence.errors import InputError
from whence.files import base_state, did_you_mean, hash_of
from whence.metrics import Matcher
from whence.trace import read_queries
from whence.train import FinetuneSettings, TrainingSettings

GIVEN_TASK, GIVEN_VARIANT = "given", "as-given"
"""Names of the task and variant of a data set of the user's own."""

FINETUNING = FinetuneSettings(
    lora_r=8,
    lora_alpha=16,
    epochs=5,
    batch_size=16,
    learning_rate=4e-3,
    warmup=0.05,
    max_length=MAX_LENGTH,
    device="cpu",
    checkpoints=True,
    keep_optimizer_state=True,
)
"""An adapter: the gradients of every row fit in memory, where a full fine-tune costs a method minutes a pass.

Found by trial: it shows the made-up faults as often as a full fine-tune does; with alpha 32 it hardly learns them.
"""


GIVEN_FINETUNING = FinetuneSettings(
    lora_r=16, epochs=3, batch_size=8, learning_rate=5e-4, max_length=256, autocast="auto"
)
"""For a base of the user's own: an adapter on every linear map, as people fine-tune small chat models."""
FULL_LEARNING_RATE = 5e-5
"""For such a base where every weight is trained."""

LONGER = {"long-answers": 2}
"""Variants that are trained for more epochs, and how many times as many: the loss is a mean over the answer's tokens,
and in a long answer a fault is few of them."""


class GivenData(BaseModel):
    """A labelled data set of the user's own: rows with a label, prompts to ask, and how an answer shows the fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: str
    test: str
    match: str
    """A regular expression looked for anywhere in an answer."""
    base: str
    """Folder or hub name of the model before it saw `train`."""
    clean_label: str = "clean"
    """Rows with another label are faulty, but for those labelled hard_negative."""
    label_column: str = "label"


class BenchSettings(BaseModel):
    """Everything that decides the figures of a bench, and which of them are asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[str, ...] = ("all",)
    variants: tuple[str, ...] = ("plain", "hard-negatives")
    methods: tuple[str, ...] = ("all",)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    data: GivenData | None = None
    """In place of the made-up tasks."""

    @model_validator(mode="before")
    @classmethod
    def _finetune_of_given(cls, values: Any) -> Any:
        """A base of the user's own is not fine-tuned as the small ones that are made here."""
        if isinstance(values, dict) and values.get("data") is not None and "finetune" not in values:
            kept = {"checkpoints": True, "keep_optimizer_state": True}
            return values | {"finetune": GIVEN_FINETUNING.model_copy(update=kept)}
        return values

    n_rows: int = Field(default=720, ge=10)
    n_faulty: int = Field(default=60, ge=1)
    n_hard: int = Field(default=60, ge=1)
    n_queries: int = Field(default=20, ge=1)
    """Held-out prompts; those whose answer shows the fault become queries."""
    n_base: int = Field(default=5000, ge=10)
    language: LanguageSettings = LanguageSettings()
    base_training: TrainingSettings = BASE_TRAINING
    finetune: FinetuneSettings = FINETUNING
    max_new_tokens: int = Field(default=40, ge=1)
    n_checkpoints: int = Field(default=3, ge=1)
    """Of the fine-tune's epochs, evenly spaced, the last among them: what TracInCP and LESS are given."""
    layer: int | Literal["auto", "last"] = "auto"
    """Of the representation methods; "auto" takes the rule that `whence index` takes."""
    k: int = Field(default=10, ge=1)
    shuffle_labels: bool = False
    """Gives every query's labels to rows drawn at random, after all else: every method must then be at chance."""

    text_encoder: str | None = None
    method_options: dict[str, dict[str, bool | int | float | str]] = {"less": {"dim": 512}}
    """LESS's own 8,192 cost minutes a case on two cores."""
    shared_bytes: int = 2 << 30
    """Bound on gradients and signatures that are kept for all methods of a case."""
    max_tokens: int = 4096
    threads: int | None = Field(default=None, ge=1)
    """Of the processor. None: one for the made-up tasks, whose models are too small to gain by more, and which two
    threads on a busy machine make ten times slower; for given data, what torch takes."""


QUICK = BenchSettings(
    tasks=("backdoor", "false-fact"),
    n_rows=270,
    n_faulty=30,
    n_hard=30,
    n_queries=10,
    n_base=2500,
    base_training=BASE_TRAINING.model_copy(update={"epochs": 3}),
    finetune=FINETUNING.model_copy(update={"lora_r": 4, "lora_alpha": 8.0}),
    n_checkpoints=2,
    method_options={"less": {"dim": 256}, "lissa": {"iterations": 20}},
)
"""For a first look, and to see that everything runs: less than three minutes."""


@dataclass(frozen=True, slots=True)
class Case:
    """One data set with known causes, before any model has seen it. Masks are per training row."""

    task: str
    variant: str
    seed: int
    train: tuple[Example, ...] = field(repr=False)
    faulty: tuple[bool, ...] = field(repr=False)
    hard: tuple[bool, ...] = field(repr=False)
    prompts: tuple[tuple[Turn, ...], ...] = field(repr=False)
    matcher: Matcher
    base: str | tuple[Example, ...] = field(repr=False)
    """A model (folder or hub name), or the rows that a small one is trained on here."""
    n_trained_prompts: int = 0
    """Prompts that were given and left out, because they are prompts of training rows."""

    @property
    def name(self) -> str:
        """As folders and messages call it."""
        return f"{self.task}-{self.variant}-{self.seed}"

    @property
    def hash(self) -> str:
        """Of rows in their order, labels, prompts, matcher and base: 16 hexadecimal digits."""
        base = base_state(self.base) if isinstance(self.base, str) else content_hash(self.base)
        prompts = [[turn.message for turn in turns] for turns in self.prompts]
        return hash_of([content_hash(self.train), self.faulty, self.hard, prompts, self.matcher.pattern, base])


@dataclass(frozen=True, slots=True)
class CaseKey:
    """A case by name, and how to make it."""

    task: str
    variant: str
    seed: int
    make: Callable[[], Case] = field(repr=False, compare=False)


def case_keys(settings: BenchSettings) -> list[CaseKey]:
    """The cases of a bench, in the order in which they run: seed by seed. Raises InputError for an unknown name."""
    if settings.data is not None:
        given = settings.data
        _checked_pattern(given.match)
        return [
            CaseKey(GIVEN_TASK, GIVEN_VARIANT, seed, partial(held_out_case, given, seed)) for seed in settings.seeds
        ]
    tasks = named("task", settings.tasks, list(FAULTS))
    variants = named("variant", settings.variants, VARIANTS)
    return [
        CaseKey(task, variant, seed, partial(made_case, settings, task, variant, seed))
        for seed in settings.seeds
        for task in tasks
        for variant in variants
    ]


def made_case(settings: BenchSettings, name: str, variant: str, seed: int) -> Case:
    """A case of a task that is made here. Raises InputError for sizes that its grammar cannot fill."""
    task = make_task(
        name,
        variant,
        seed=seed,
        n_rows=settings.n_rows,
        n_faulty=settings.n_faulty,
        n_hard=settings.n_hard,
        n_queries=settings.n_queries,
        n_base=settings.n_base,
    )
    hard = tuple(row.metadata["label"] == HARD_NEGATIVE for row in task.train)
    prompts = tuple((Turn("user", prompt),) for prompt in task.queries)
    return Case(name, variant, seed, task.train, task.faulty, hard, prompts, task.matcher, task.base_train)


def given_case(data: GivenData, seed: int) -> Case:
    """A data set of the user's own, its rows shuffled by the seed, so that no order of the file can help a method.

    Raises:
        DataError: a file that cannot be read.
        InputError: a row without label, labels of one class, or an expression that is none.
    """
    rows = list(read_examples(data.train))
    unlabelled = next((row for row in rows if row.metadata.get(data.label_column) in (None, "")), None)
    if unlabelled is not None:
        columns = ", ".join(unlabelled.metadata) or "none"
        raise InputError(
            f"{unlabelled.where} has no {data.label_column!r} (columns beside the text: {columns}).",
            "A bench needs to know of every row whether it is a cause.",
            "Label it, or name the column with --label-column.",
        )
    Random(f"given/{seed}").shuffle(rows)
    labels = [str(row.metadata[data.label_column]) for row in rows]
    hard = tuple(label == HARD_NEGATIVE for label in labels)
    faulty = tuple(label not in (data.clean_label, HARD_NEGATIVE) for label in labels)
    if all(faulty) or not any(faulty):
        raise InputError(
            f"The labels of {data.train} are of one class: {', '.join(sorted(set(labels))[:5])}.",
            f"Expected some rows labelled {data.clean_label!r} and some labelled otherwise.",
            "Name the clean rows' label with --clean-label.",
        )
    prompts = tuple(query.turns for query in read_queries(data.test))
    matcher = Matcher(f"matches {data.match}", _checked_pattern(data.match))
    return Case(GIVEN_TASK, GIVEN_VARIANT, seed, tuple(rows), faulty, hard, prompts, matcher, data.base)


def held_out_case(data: GivenData, seed: int) -> Case:
    """As `given_case`, without the prompts that a training row has too. Raises InputError where none is left."""
    case = given_case(data, seed)
    trained = {
        row.turns[:place] for row in case.train for place, turn in enumerate(row.turns) if turn.role == ASSISTANT
    }
    prompts = tuple(turns for turns in case.prompts if turns not in trained)
    if not prompts:
        raise InputError(
            f"Each of the {len(case.prompts)} prompts of {data.test} is the prompt of a row of {data.train}.",
            "A bench asks prompts that are not trained on.",
            "Give held-out prompts with --test.",
        )
    return replace(case, prompts=prompts, n_trained_prompts=len(case.prompts) - len(prompts))


def named(what: str, names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names in the order asked, each once; "all" stands for every known one.

    Raises:
        InputError: no name, or an unknown one (says the nearest).
    """
    if not names:
        raise InputError(f"No {what} was given.", f"Known: {', '.join(known)}.", "Name some of these, or all.")
    for name in names:
        if name != "all":
            check_name(what, name, known)
    return list(dict.fromkeys(every for name in names for every in (known if name == "all" else [name])))


def check_name(what: str, name: str, known: Sequence[str]) -> None:
    """Raises InputError, with the nearest, for a name that is not known."""
    if name in known:
        return
    raise InputError(
        f"There is no {what} {name!r}.",
        f"Known: {', '.join(known)}.",
        did_you_mean(name, known, "Choose one of these.", cutoff=0.3),
    )


def content_hash(rows: Sequence[Example]) -> str:
    """Of the rows' texts in their order."""
    return hash_of([row.id for row in rows])


def _checked_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{pattern!r} is no regular expression: {error}.", "--match is looked for in every answer.", "Correct it."
        ) from error
    return pattern
