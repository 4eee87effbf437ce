"""The retrainings: each a folder named by a hash of what decided it, there whole or not at all."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from whence.cleaning import clean, copy_data
from whence.confirmation.foretelling import summed
from whence.confirmation.losses import turn_losses
from whence.data import EncodedTurn, Encoder, Example, RowEncoding, conversation_json
from whence.errors import EncodingError, InputError
from whence.files import base_state, hash_of, new_folder, word_state, write_atomically
from whence.index import DataSummary
from whence.model import LoadedModel, ModelSettings, generate, load_model, log_probabilities
from whence.progress import Progress
from whence.results import SelectedRows
from whence.trace import Query
from whence.train import FinetuneSettings, finetune

RUNS, ANSWERS, DATA = "runs", "answers", "data"
ANSWERS_VERSION = 2
"""Part of the name of answers; goes up when the same model would be asked in another way."""
PLAIN_ENCODING = RowEncoding()
LOG_LINES = 5
"""Of the trainer's output, in the message when it fails."""


@dataclass(frozen=True, slots=True)
class AsTraced:
    """The model that was traced, which training on all rows with this seed is known to give; `hash` of its weights."""

    model: ModelSettings
    seed: int
    hash: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is made from rows: whence's own fine-tune of a base, or the user's trainer.

    settings:  of the fine-tune; the seed is put in its place for each run.
    trainer:   a command with {train} and {out}, and {seed} where there are several.
    as_traced: None where no training gives the very model that was traced.
    """

    data: DataSummary
    rows: tuple[Example, ...]
    settings: FinetuneSettings
    base: LoadedModel | None
    base_hash: str
    template: str | None
    max_length: int
    encoding: RowEncoding = PLAIN_ENCODING
    trainer: str | None = None
    as_traced: AsTraced | None = None


@dataclass(frozen=True, slots=True)
class RunQuestions:
    """What every model is asked: prompts to answer, and rows whose loss is taken."""

    prompts: tuple[Query, ...]
    held_out: tuple[Example, ...]
    max_new_tokens: int
    answered: tuple[EncodedTurn, ...] = ()
    """Answers that the traced model gave or was given, whose log-probability is taken."""

    @property
    def hash(self) -> str:
        """Of the prompts, the rows, the number of tokens and the answers."""
        prompts = [
            json.loads(conversation_json(Example(p.turns, template_inputs=p.template_inputs))) for p in self.prompts
        ]
        answered = [[turn.input_ids, turn.response_start] for turn in self.answered]
        return hash_of([ANSWERS_VERSION, prompts, [row.id for row in self.held_out], self.max_new_tokens, answered])


@dataclass(frozen=True, slots=True)
class RunAnswers:
    """What one model answered, and its mean loss on the held-out turns in nats per token.

    log_probs: log p of each of the answers given, in nats.
    """

    answers: tuple[str, ...]
    held_out_loss: float
    folder: str
    log_probs: tuple[float, ...] = ()


def check_trainer(command: str, n_seeds: int) -> None:
    """Raises InputError unless the command names where rows come from and where the model goes."""
    needed = ["{train}", "{out}", *(["{seed}"] if n_seeds > 1 else [])]
    missing = [name for name in needed if name not in command]
    if missing:
        raise InputError(
            f"The trainer's command {command!r} has no {missing[0]}.",
            f"Expected {', '.join(needed)}, which are replaced by a path" + (" and a number." if n_seeds > 1 else "."),
            'For example --trainer "python train.py --data {train} --out {out} --seed {seed}".',
        )


def run_arm(
    recipe: Recipe, removed: frozenset[str], seed: int, asked: RunQuestions, out: Path, step: Progress
) -> RunAnswers:
    """Trains without `removed` (or takes the model that was trained so before) and asks. Finished work is kept, and
    shared by arms that remove the same rows.

    Raises InputError when the trainer fails; otherwise as `finetune`, `load_model` and `turn_losses`.
    """
    kept = [row for row in recipe.rows if row.id not in removed]
    settings = recipe.settings.model_copy(update={"seed": seed})
    label = f"seed-{seed}-{hash_of(made_of(recipe, kept, settings))}"
    known = recipe.as_traced
    if known is not None and (known.seed != seed or len(kept) < len(recipe.rows)):
        known = None
    folder = out / RUNS / label
    place = out / ANSWERS / f"{f'as-traced-{known.hash}' if known else label}-{asked.hash}.json"
    if place.is_file():
        found = json.loads(place.read_text("utf-8"))
        return RunAnswers(
            tuple(found["answers"]), float(found["held_out_loss"]), str(found["folder"]), tuple(found["log_probs"])
        )
    if known is not None:
        model = known.model
    else:
        _train(recipe, kept, removed, settings, folder, out, step)
        model = _model_at(folder, recipe)
    step("asking", 0, None)
    found_now = _ask(load_model(model), recipe, asked, model.adapter or model.model)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, json.dumps(asdict(found_now), ensure_ascii=False) + "\n")
    return found_now


def made_of(recipe: Recipe, kept: Sequence[Example], settings: FinetuneSettings) -> list[object]:
    """All that decides what training on these rows gives, as it is part of a run's name."""
    made: list[object] = [[row.id for row in kept], recipe.base_hash, recipe.template, recipe.trainer]
    # Without a day the name is that of earlier versions, which knew none.
    made += [recipe.encoding.model_dump(exclude_none=True)] if recipe.encoding != PLAIN_ENCODING else []
    return made + ([settings.seed, _outside(recipe)] if recipe.trainer else [settings.model_dump(mode="json")])


def _outside(recipe: Recipe) -> list[object]:
    """What else decides what the user's trainer leaves: columns beside the text, files of the command and the base."""
    data = recipe.data
    return [
        [data.content_hash, data.source, data.split, data.columns],
        [word_state(word) for word in shlex.split(recipe.trainer or "")],
        base_state(recipe.base_hash),
    ]


def _train(
    recipe: Recipe,
    kept: Sequence[Example],
    removed: frozenset[str],
    settings: FinetuneSettings,
    folder: Path,
    out: Path,
    step: Progress,
) -> None:
    if folder.exists():
        return
    if recipe.trainer is not None:
        step("training with the given command", 0, None)
        _train_outside(recipe.trainer, recipe.data, removed, settings.seed, folder, out)
        return
    assert recipe.base is not None, "a base is checked before the first run"
    encoder = Encoder(
        recipe.base.tokenizer,
        template=recipe.template,
        max_length=recipe.base.fitting(settings.max_length),
        rows=recipe.encoding,
    )
    finetune(
        recipe.base,
        [row for row in kept if _is_left(encoder, row)],
        folder,
        settings=settings,
        encoder=encoder,
        progress=step,
    )


def encoded_rows(encoder: Encoder, rows: Sequence[Example]) -> list[EncodedTurn]:
    """The turns of the rows of which there is a token to learn."""
    return [turn for row in rows if _is_left(encoder, row) for turn in encoder.encode(row)]


def check_some_left(turns: Sequence[EncodedTurn], n_rows: int) -> None:
    """Raises InputError where no token of the held-out rows is left whose loss could be taken."""
    if not turns:
        raise InputError(
            f"None of {n_rows} held-out rows has a token whose loss can be taken.",
            "Expected rows whose response is left when they are cut as the training rows were.",
            "Give others with --held-out.",
        )


def _is_left(encoder: Encoder, row: Example) -> bool:
    """Whether there is a token to learn of a row: the trainer's cut may leave none, the template may refuse it."""
    try:
        return bool(encoder.encode(row))
    except EncodingError:
        return False


def _train_outside(
    command: str, data: DataSummary, removed: frozenset[str], seed: int, folder: Path, out: Path
) -> None:
    """Runs the user's trainer on the data in their own format; what it leaves becomes the run's folder."""
    train = _data_without(data, removed, out)
    log = folder.with_suffix(".log")
    with new_folder(folder) as partial:
        words = {"{train}": str(train), "{out}": str(partial), "{seed}": str(seed)}
        arguments = shlex.split(command)
        for name, value in words.items():
            arguments = [argument.replace(name, value) for argument in arguments]
        try:
            with log.open("wb") as said:
                status = subprocess.run(
                    arguments, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False
                ).returncode
        except OSError as error:
            raise InputError(
                f"The trainer {arguments[0]!r} cannot be run: {error.strerror}.",
                "Expected a command.",
                "Check --trainer.",
            ) from error
        _check_trained(partial, status, log)


def _check_trained(folder: Path, status: int, log: Path) -> None:
    """Raises InputError for a trainer that failed, or left no model in the folder."""
    if status != 0:
        last = "\n  ".join(log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]) or "nothing"
        raise InputError(
            f"The trainer ended with status {status}; it said last:\n  {last}",
            "Expected status 0 and a model or adapter in {out}.",
            f"All it said is in {log}.",
        )
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise InputError(
            f"The trainer left no model in {{out}}; {folder.name} has no config.json and no adapter_config.json.",
            "Expected what save_pretrained writes.",
            f"All it said is in {log}.",
        )


def _data_without(data: DataSummary, removed: frozenset[str], out: Path) -> Path:
    """The data in their own format without the rows: the same files for every arm, those of the split alone.

    A single file of which no row is taken out is given as it is.
    """
    source = Path(data.source)
    if not removed and source.is_file():
        return source
    folder = out / DATA / hash_of([data.content_hash, data.source, data.columns, data.split, sorted(removed)])
    train = folder / (source.name if source.exists() else "data")
    if folder.exists():
        return train
    with new_folder(folder) as partial:
        if removed:
            selected = SelectedRows.given(sorted(removed), "left out of this arm")
            clean(
                data.source,
                partial / train.name,
                selected,
                columns=data.columns,
                split=data.split,
                other_splits=False,
            )
        else:
            copy_data(data.source, partial / train.name, split=data.split)
    return train


def _model_at(folder: Path, recipe: Recipe) -> ModelSettings:
    """How a run's model is loaded: an adapter on the base given, or on the one that it names itself."""
    dtype, device = recipe.settings.dtype, recipe.settings.device
    adapter = (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()
    if adapter and recipe.base is not None:
        return ModelSettings(model=recipe.base.settings.model, adapter=str(folder), dtype=dtype, device=device)
    return ModelSettings(model=str(folder), dtype=dtype, device=device)


def _ask(loaded: LoadedModel, recipe: Recipe, asked: RunQuestions, folder: str) -> RunAnswers:
    length = loaded.fitting(recipe.max_length)
    encoder = Encoder(loaded.tokenizer, template=recipe.template, max_length=length, rows=recipe.encoding)
    prompts = [query.prompt_ids(encoder) for query in asked.prompts]
    answers = generate(loaded, prompts, max_new_tokens=asked.max_new_tokens)
    turns = encoded_rows(encoder, asked.held_out)
    check_some_left(turns, len(asked.held_out))
    loss = float(turn_losses(loaded, turns).mean())
    log_probs = summed(log_probabilities(loaded, asked.answered)).tolist()
    return RunAnswers(tuple(answer.text for answer in answers), loss, folder, tuple(log_probs))
