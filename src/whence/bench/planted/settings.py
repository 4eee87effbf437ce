"""What a bench on a base and rows of the user's own compares on: settings, and cases by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from whence.bench.cases import GIVEN_FINETUNING, GivenData, content_hash, given_case, named
from whence.bench.natural import HARD_NEGATIVE, NATURAL_FAULTS, VARIANTS, PlantedRows, plant_natural
from whence.bench.natural.planting import CLEAN
from whence.bench.planted.rankings import METHODS
from whence.data import Example, Turn, read_examples
from whence.errors import InputError
from whence.files import base_state, did_you_mean, hash_of
from whence.scoring import SCORES, default_method
from whence.self_test import usable_rows
from whence.train import FinetuneSettings

FINETUNING = GIVEN_FINETUNING
LABEL = "label"
SHARES = (0.01, 0.05, 0.1)
Share = Annotated[float, Field(gt=0, le=0.5)]


class PlantedSettings(BaseModel):
    """Everything that decides the figures of a bench on a given base, and which cases are asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    """A plain model: folder or hub name."""
    data: str = ""
    """Instruction data of the user's own; not read with `given`."""
    faults: tuple[str, ...] = ("all",)
    variants: tuple[str, ...] = ("plain",)
    shares: tuple[Share, ...] = Field(default=SHARES, min_length=1)
    """Of faulty rows among all rows."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    given: GivenData | None = None
    """Rows in which somebody else planted a fault, in place of `data` and `faults`; its base is not read."""
    given_name: str = "given"

    n_rows: int = Field(default=400, ge=10)
    n_hard: int | None = Field(default=None, ge=0)
    """Hard negatives; None: a tenth of the rows."""
    n_queries: int = Field(default=40, ge=1)
    n_benign: int = Field(default=40, ge=0)
    clean_label: str = "clean"
    """Rows of `data` with another label in `label_column` are left out; a row without a label is taken."""
    label_column: str = LABEL
    finetune: FinetuneSettings = FINETUNING
    max_new_tokens: int = Field(default=40, ge=1)
    k: int = Field(default=10, ge=1)
    verdicts: bool = True


@dataclass(frozen=True, slots=True)
class PlantedCase:
    """One fault in one variant at one share with one seed; `planted` is what is trained on and asked."""

    fault: str
    variant: str
    share: float
    seed: int
    planted: PlantedRows

    @property
    def name(self) -> str:
        """As folders and messages call it."""
        return f"{self.fault}-{self.variant}-{self.share:g}-seed{self.seed}"

    @property
    def table(self) -> str:
        """The table that it stands in: variant and share, as there are faulty rows."""
        rows = self.planted
        return f"{self.variant}, {sum(rows.faulty) / len(rows.rows):.3g} of the rows faulty"

    def hash(self, settings: PlantedSettings) -> str:
        """Of all that decides its figures: 16 hexadecimal digits."""
        rows, forms = self.planted, (default_method(has_base=True), *(SCORES[name] for name in METHODS))
        asked = [[turn.message for turn in turns] for turns in (*rows.queries, *rows.benign)]
        return hash_of(
            [
                content_hash(rows.rows),
                rows.labels,
                asked,
                rows.matcher.pattern,
                rows.asks,
                content_hash(rows.lessons),
                base_state(settings.base),
                [[form.name, form.version] for form in forms],
                self.tuning(settings).model_dump(mode="json"),
                [settings.max_new_tokens, settings.k, settings.verdicts],
            ]
        )

    def tuning(self, settings: PlantedSettings) -> FinetuneSettings:
        """How it is fine-tuned."""
        return settings.finetune.model_copy(update={"seed": self.seed})


def planted_cases(settings: PlantedSettings) -> list[PlantedCase]:
    """The cases of a bench, seed by seed, all planted: what cannot be planted is refused before any training.

    Raises:
        InputError: an unknown fault or variant (names the nearest), shares of which two are as many rows, too few
            rows; DataError: as reading raises it.
    """
    _check_shares(settings)
    if settings.given is not None:
        return [
            PlantedCase(settings.given_name, "as-given", share, seed, _given(settings, settings.given, share, seed))
            for seed in settings.seeds
            for share in settings.shares
        ]
    faults, variants = (
        named("fault", settings.faults, list(NATURAL_FAULTS)),
        named("variant", settings.variants, VARIANTS),
    )
    rows = clean_rows(settings)
    return [
        PlantedCase(
            fault,
            variant,
            share,
            seed,
            plant_natural(
                rows,
                fault,
                variant=variant,
                n_rows=settings.n_rows,
                n_faulty=n_faulty(settings, share),
                n_hard=n_hard(settings),
                n_queries=settings.n_queries,
                n_benign=settings.n_benign,
                seed=seed,
            ),
        )
        for seed in settings.seeds
        for fault in faults
        for variant in variants
        for share in settings.shares
    ]


def n_faulty(settings: PlantedSettings, share: float) -> int:
    """Faulty rows at this share, at least one."""
    return max(1, round(share * settings.n_rows))


def n_hard(settings: PlantedSettings) -> int:
    """Hard negatives among the rows."""
    return settings.n_rows // 10 if settings.n_hard is None else settings.n_hard


def clean_rows(settings: PlantedSettings) -> list[Example]:
    """The user's rows, without those that are labelled as anything but clean.

    Raises:
        InputError: a column or a clean label was given and no row has such a column; no row is clean.
    """
    rows, column = list(read_examples(settings.data)), settings.label_column
    named = column != LABEL or settings.clean_label != CLEAN
    if named and not any(column in row.metadata for row in rows):
        columns = list(dict.fromkeys(name for row in rows for name in row.metadata))
        raise InputError(
            f"No row of {settings.data} has a column {column!r}.",
            f"Columns beside the text: {', '.join(columns) or 'none'}.",
            did_you_mean(column, columns, "Name the column of the labels.", option="--label-column"),
        )
    labels = [row.metadata.get(column) for row in rows]
    clean = [
        row
        for row, label in zip(rows, labels, strict=True)
        if label in (None, "") or str(label) == settings.clean_label
    ]
    if rows and not clean:
        found = [label for label, _ in Counter(map(str, labels)).most_common(5)]
        raise InputError(
            f"No row of {settings.data} has {settings.clean_label!r} in the column {column!r}.",
            f"Labels there: {', '.join(map(repr, found))}.",
            "Name the label of the clean rows with --clean-label.",
        )
    return clean


def _check_shares(settings: PlantedSettings) -> None:
    """Raises InputError for two shares that are the same number of faulty rows: one fine-tune under two headings."""
    seen: dict[int, float] = {}
    for share in settings.shares:
        n = n_faulty(settings, share)
        if n in seen:
            raise InputError(
                f"Of {settings.n_rows} rows, shares of {seen[n]:g} and {share:g} are both {n} faulty.",
                "Each share is a fine-tune of its own.",
                "Leave one of them out with --shares, or give more --rows.",
            )
        seen[n] = share


def _given(settings: PlantedSettings, data: GivenData, share: float, seed: int) -> PlantedRows:
    """A labelled data set of somebody else's, cut down to the size and the share asked for."""
    case = given_case(data, seed)
    kinds: dict[str, list[Example]] = {settings.given_name: [], HARD_NEGATIVE: [], CLEAN: []}
    for row, faulty, hard in zip(case.train, case.faulty, case.hard, strict=True):
        kinds[settings.given_name if faulty else HARD_NEGATIVE if hard else CLEAN].append(row)
    n_bad, hard_rows = n_faulty(settings, share), kinds[HARD_NEGATIVE][: n_hard(settings)]
    n_clean = settings.n_rows - n_bad - len(hard_rows)
    clean = [row for row in usable_rows(kinds[CLEAN]) if not row.template_inputs]
    found, needed = (len(kinds[settings.given_name]), len(clean)), (n_bad, n_clean + settings.n_benign)
    if found[0] < needed[0] or found[1] < needed[1]:
        raise InputError(
            f"{data.train} has {found[0]} rows with the fault and {found[1]} clean ones.",
            f"Expected {needed[0]} and {needed[1]}, {settings.n_benign} of these held out.",
            "Give a smaller --rows, or other --shares.",
        )
    labelled = [(row, settings.given_name) for row in kinds[settings.given_name][:n_bad]]
    labelled += [(row, HARD_NEGATIVE) for row in hard_rows] + [(row, CLEAN) for row in clean[:n_clean]]
    rng = Random(f"given/{seed}")
    rng.shuffle(labelled)
    return PlantedRows(
        fault=settings.given_name,
        rows=tuple(row for row, _ in labelled),
        labels=tuple(label for _, label in labelled),
        queries=_drawn(case.prompts, {row.turns[:-1] for row, _ in labelled}, settings.n_queries, rng),
        benign=tuple(row.turns[:-1] for row in clean[n_clean : n_clean + settings.n_benign]),
        matcher=case.matcher,
    )


def _drawn(
    prompts: Sequence[tuple[Turn, ...]], trained: set[tuple[Turn, ...]], n: int, rng: Random
) -> tuple[tuple[Turn, ...], ...]:
    """At most n of the prompts, at random, none of which is trained on."""
    held_out = [turns for turns in dict.fromkeys(prompts) if turns not in trained]
    return tuple(rng.sample(held_out, min(n, len(held_out))))


__all__ = [
    "FINETUNING",
    "SHARES",
    "PlantedCase",
    "PlantedSettings",
    "clean_rows",
    "n_faulty",
    "planted_cases",
]
