"""From a case to a model that learned its fault, and to the queries that show it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from whence.bench.cases import LONGER, BenchSettings, Case, content_hash
from whence.bench.planted.answers import why_not_counted
from whence.bench.tiny_model import new_model, pretrain, train_tokenizer
from whence.data import EncodedTurn, Encoder
from whence.errors import InputError
from whence.files import hash_of, new_folder
from whence.methods import FolderCheckpoint, SharedWork, Subject, TurnSet, run_checkpoints
from whence.model import (
    Answer,
    LoadedModel,
    ModelSettings,
    before_tuning,
    choose_layer_from,
    fingerprint,
    generate,
    has_before,
    load_model,
    probe_similarities,
)
from whence.progress import Progress
from whence.run_file import read_run_file
from whence.train import FinetuneSettings, finetune

N_PROBES = 128
"""Rows that the layer rule looks at, as in `whence index`."""


@dataclass(frozen=True, slots=True)
class TrainedCase:
    """A model that was trained on a case, and what is asked about it.

    `train` has one encoded turn an entry; `row_of[i]` is the case's row of entry i, ascending.
    """

    case: Case
    subject: Subject
    train: TurnSet
    row_of: np.ndarray
    queries: TurnSet | None
    """Held-out prompts with the model's own answers, those that count; None where the case does not."""
    not_counted: str | None
    """Why the case has no queries."""
    asked: dict[str, int]
    """Numbers of prompts and answers, as they stand in a row of the bench."""
    seconds: float
    """Of the fine-tune."""
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answered:
    """A held-out prompt with the model's greedy answer; `encoded` where it counts as a query."""

    prompt: str
    response: str
    shows_fault: bool
    base_shows_fault: bool | None
    """Whether the answer of a given base shows it too; None for a base that is made here, which is not asked."""
    encoded: EncodedTurn | None


def train_case(case: Case, settings: BenchSettings, folder: Path, shared: SharedWork, stage: Progress) -> TrainedCase:
    """Trains on the case (or takes the model that was trained on it before) and asks the held-out prompts.

    Models are kept under `folder`, each named by a hash of what decided it.

    Raises:
        InputError, EncodingError, ModelError, NonFiniteError: as `finetune` and `load_model` raise them.
    """
    base = base_model(case, settings, folder, stage)
    epochs = settings.finetune.epochs * LONGER.get(case.variant, 1)
    tuning = settings.finetune.model_copy(update={"seed": case.seed, "epochs": epochs})
    run = folder / f"{case.name}-{hash_of([case.hash, base.name, tuning.model_dump(mode='json')])}"
    seconds = _finetuned(case, base, run, tuning, stage)
    adapter = tuning.lora_r is not None
    loaded = load_model(
        ModelSettings(
            model=str(base) if adapter else str(run),
            adapter=str(run) if adapter else None,
            dtype=tuning.dtype,
            device=tuning.device,
        )
    )
    encoder = Encoder(loaded.tokenizer, max_length=loaded.fitting(tuning.max_length))
    units = [(row, turn) for row, example in enumerate(case.train) for turn in encoder.encode(example)]
    stage("asking", 0, 1)
    answers = answered(case, loaded, encoder, settings)
    shown = [answer.encoded for answer in answers if answer.encoded is not None]
    asked, not_counted = _counted(case, answers)
    _write_answers(run / "answers.jsonl", answers)
    names = [f"{case.train[row].where} (row {row})" for row, _ in units]
    subject = Subject(
        loaded,
        layer=_layer(settings, loaded, [turn for _, turn in units], case.seed),
        checkpoints=spaced(run_checkpoints(run), settings.n_checkpoints),
        text_encoder=settings.text_encoder,
        seed=case.seed,
        max_tokens=settings.max_tokens,
        shared=shared,
    )
    marks = fingerprint(loaded, encoder.template)
    return TrainedCase(
        case=case,
        subject=subject,
        train=TurnSet.of([turn for _, turn in units], names),
        row_of=np.array([row for row, _ in units]),
        queries=TurnSet.of(shown, [f"query {i + 1}" for i in range(len(shown))]) if not_counted is None else None,
        not_counted=not_counted,
        asked=asked,
        seconds=seconds,
        hashes={"case": case.hash, "weights": marks.weights, "adapter": marks.adapter, "template": marks.template},
    )


def base_model(case: Case, settings: BenchSettings, folder: Path, stage: Progress) -> Path:
    """The base of a case: the one given, or a small one trained on the base rows, made once for all that share them."""
    if isinstance(case.base, str):
        return Path(case.base)
    language = settings.language.model_copy(update={"seed": case.seed})
    training = settings.base_training.model_copy(update={"seed": case.seed})
    made_of = [content_hash(case.base), language.model_dump(mode="json"), training.model_dump(mode="json")]
    place = folder / f"base-{case.seed}-{hash_of(made_of)}"
    if place.exists():
        return place
    tokenizer = train_tokenizer(case.base, language.vocab_size)
    model = new_model(tokenizer, language)
    pretrain(model, tokenizer, case.base, training, stage)
    with new_folder(place) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return place


def answered(case: Case, loaded: LoadedModel, encoder: Encoder, settings: BenchSettings) -> list[Answered]:
    """The model's greedy answers to the case's prompts, in their order.

    An answer counts where it shows the fault; with a base that was given, where the base's answer does not show it.
    """
    prompts = [encoder.render_prompt(turns) for turns in case.prompts]
    answers = generate(loaded, prompts, max_new_tokens=settings.max_new_tokens)
    before: list[bool | None] = [None] * len(prompts)
    if isinstance(case.base, str):
        plain = None if has_before(loaded) else load_model(loaded.settings.model_copy(update={"model": case.base}))
        with before_tuning(loaded, plain) as base:
            said = generate(base, prompts, max_new_tokens=settings.max_new_tokens)
        before = [_shows(case, answer) for answer in said]
    found = []
    for turns, answer, base_shows in zip(case.prompts, answers, before, strict=True):
        shows = _shows(case, answer)
        counts = shows and not base_shows
        encoded = encoder.encode_query(turns, answer.text, complete=answer.complete) if counts else None
        found.append(Answered(turns[-1].content, answer.text, shows, base_shows, encoded))
    return found


def _shows(case: Case, answer: Answer) -> bool:
    return bool(answer.text.strip()) and case.matcher(answer.text)


def _counted(case: Case, answers: Sequence[Answered]) -> tuple[dict[str, int], str | None]:
    """Numbers of a row of the bench, and why the case has no figures (None where it has)."""
    n, n_queries = len(answers), sum(answer.encoded is not None for answer in answers)
    numbers = {"n_asked": n, "n_queries": n_queries}
    if not isinstance(case.base, str):
        seen = f"None of {n} held-out answers shows the fault ({case.matcher.what})"
        return numbers, None if n_queries else f"{seen}: the model did not learn it."
    n_base_shows = sum(bool(answer.base_shows_fault) for answer in answers)
    numbers |= {
        "n_shown": sum(answer.shows_fault for answer in answers),
        "n_base_shows": n_base_shows,
        "n_trained_prompts": case.n_trained_prompts,
    }
    return numbers, why_not_counted(n, n_base_shows, n_queries)


def spaced(checkpoints: Sequence[FolderCheckpoint], n: int) -> tuple[FolderCheckpoint, ...]:
    """At most n of the checkpoints, evenly spaced backwards from the last."""
    count = len(checkpoints)
    return tuple(checkpoints[i] for i in range(count) if (count - 1 - i) % -(-count // n) == 0)


def _finetuned(case: Case, base: Path, run: Path, tuning: FinetuneSettings, stage: Progress) -> float:
    """Seconds that the fine-tune took, now or when it was made."""
    if not run.exists():
        finetune(base, case.train, run, settings=tuning, progress=stage)
    made = read_run_file(run)
    assert made is not None, "a fine-tune writes its run.yaml before its folder appears"
    return made.seconds


def _layer(settings: BenchSettings, loaded: LoadedModel, turns: list[EncodedTurn], seed: int) -> int:
    if settings.layer == "last":
        return loaded.n_layers
    if settings.layer == "auto":
        probes = Random(seed).sample(turns, min(N_PROBES, len(turns)))
        return choose_layer_from(probe_similarities(loaded, probes), seed=seed).layer
    if not 0 <= settings.layer <= loaded.n_layers:
        raise InputError(
            f"layer = {settings.layer}", f"The model has layers 0 to {loaded.n_layers}.", "Give one of these."
        )
    return settings.layer


def _write_answers(path: Path, answers: list[Answered]) -> None:
    lines = [
        {
            "prompt": a.prompt,
            "response": a.response,
            "shows_fault": a.shows_fault,
            "base_shows_fault": a.base_shows_fault,
        }
        for a in answers
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
