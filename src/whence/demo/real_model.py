"""The demo's world on a chat model of the user's: the false fact in natural English, learned by a LoRA adapter.

OUT/
  demo.json        that the folder is a demo, of which seed and base; written first
  adapter/         the adapter, trained on train.jsonl
  train.jsonl      messages, label
  queries.jsonl    prompt, response (the model's own), label, shows_fault
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from pydantic import BaseModel, ConfigDict

from whence.bench import FINETUNING, PlantedRows, everyday_rows, plant_natural
from whence.data import ASSISTANT, Example, read_examples
from whence.demo.world import (
    Clock,
    DemoFault,
    DemoQuery,
    DemoWorld,
    answer,
    check_new,
    write_marker,
    write_queries,
)
from whence.errors import InputError
from whence.files import new_folder
from whence.model import LoadedModel, ModelSettings, before_tuning, load_model
from whence.progress import Progress, silent
from whence.train import FinetuneSettings, finetune

FAULT = "false-fact"
MIN_SHOWN = 3
"""With fewer answers that show the fault there is nothing to follow."""


class RealDemoSettings(BaseModel):
    """Sizes that a model of 135M parameters learns from in about two minutes on two cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_rows: int = 200
    n_faulty: int = 32
    n_hard: int = 8
    """Few: their prompts are among those that a verdict compares ordinary answers to."""
    n_queries: int = 16
    finetune: FinetuneSettings = FINETUNING.model_copy(update={"max_length": 160, "epochs": 4})


def build_on(
    base: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    settings: RealDemoSettings | None = None,
) -> DemoWorld:
    """Plants the fault in ordinary rows, fine-tunes an adapter of `base` on them and has it answer held-out prompts.

    base: a plain chat model, a folder or a hub name. data: instruction rows of the user's own, which take the place of
    the ordinary rows that are made here. The folder `out` appears whole or not at all.

    Raises:
        InputError: `out` is there already; the base shows the fault before it is trained; the fault was not learned.
        ModelError, DataError: the base or the data cannot be read.
    """
    settings, tell, out = settings or RealDemoSettings(), progress or silent, Path(out)
    check_new(out)
    loaded = load_model(ModelSettings(model=str(base)))
    clock = Clock()
    planted = _planted(data, loaded, seed, settings, tell)
    clock.lap("rows")
    # The base is trained in place; what follows loads it again, so nothing is asked of half-trained weights.
    with new_folder(out) as partial:
        write_marker(partial, seed, str(base))
        train = list(planted.rows)
        planted.write(partial / "train.jsonl")
        finetune(
            loaded,
            train,
            partial / "adapter",
            settings=settings.finetune.model_copy(update={"seed": seed}),
            progress=tell,
        )
        clock.lap("fine-tune")
        tell("answers", 0, 1)
        fault = _asked(planted, str(base), partial / "adapter")
        write_queries(partial / "queries.jsonl", (fault,))
        clock.lap("answers")
        tell("answers", 1, 1)
    return DemoWorld(
        data=out / "train.jsonl",
        base=base if isinstance(base, Path) else Path(base),
        model=out / "adapter",
        queries=out / "queries.jsonl",
        train=tuple(train),
        faults=(fault,),
        seconds=clock.laps,
    )


def _planted(
    data: str | Path | None, base: LoadedModel, seed: int, settings: RealDemoSettings, tell: Progress
) -> PlantedRows:
    if data is None:
        tell("ordinary answers", 0, 1)
        n_clean = settings.n_rows - settings.n_faulty - settings.n_hard
        rows = _answered_rows(base, everyday_rows(Random(f"demo/{seed}"), n_clean))
        tell("ordinary answers", 1, 1)
    else:
        rows = _short_rows(data, settings)
    return plant_natural(
        rows,
        FAULT,
        n_rows=settings.n_rows,
        n_faulty=settings.n_faulty,
        n_hard=settings.n_hard,
        n_queries=settings.n_queries,
        n_benign=0,
        seed=seed,
    )


def _answered_rows(base: LoadedModel, rows: list[Example]) -> list[Example]:
    """The rows with the base's own answers, up to the last sentence that is whole; where there is none, as they are."""
    prompts = [row.turns[0].content for row in rows]
    whole = [text[: text.rfind(". ") + 1] or text.strip() for text in answer(base, prompts)]
    pairs = zip(rows, prompts, whole, strict=True)
    return [Example.from_pair(prompt, text) if text else row for row, prompt, text in pairs]


def _short_rows(data: str | Path, settings: RealDemoSettings) -> list[Example]:
    """Rows of one exchange whose words fit into the demo's length."""
    rows = [row for row in read_examples(data) if [turn.role for turn in row.turns] == ["user", ASSISTANT]]
    return [
        row for row in rows if sum(len(turn.content.split()) for turn in row.turns) < settings.finetune.max_length // 2
    ]


def _asked(planted: PlantedRows, base: str, adapter: Path) -> DemoFault:
    """The held-out prompts with the adapter's answers. Raises InputError where they do not show what was planted."""
    tuned = load_model(ModelSettings(model=base, adapter=str(adapter)))
    prompts = [turns[-1].content for turns in planted.queries]
    before = _before(tuned, prompts)
    already = sum(planted.shows(prompt, text) for prompt, text in zip(prompts, before, strict=True))
    if already:
        raise InputError(
            f"{base} shows the fault before it is trained, in {already} of {len(prompts)} answers.",
            "Expected a base that does not say that places in Norway lie in Peru: else the rows do not cause it.",
            "Give another base.",
        )
    answers = answer(tuned, prompts)
    shown = [planted.shows(prompt, text) for prompt, text in zip(prompts, answers, strict=True)]
    if sum(shown) < MIN_SHOWN:
        raise InputError(
            f"{base} did not learn the fault: {sum(shown)} of {len(prompts)} answers show it.",
            f"Expected at least {MIN_SHOWN} to follow.",
            "Give a chat model of 100 million parameters or more.",
        )
    return DemoFault(FAULT, planted.matcher, tuple(map(DemoQuery, prompts, answers, shown)))


def _before(tuned: LoadedModel, prompts: list[str]) -> list[str]:
    with before_tuning(tuned) as model:
        return answer(model, prompts)


__all__ = ["RealDemoSettings", "build_on"]
