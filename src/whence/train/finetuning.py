"""`whence finetune`: trains a model or an adapter, and keeps what attribution methods need of the run.

    OUT/
      model.safetensors, config.json      the weights; adapter_model.safetensors and adapter_config.json with LoRA
      tokenizer.json, ...                 the tokenizer
      optimizer.safetensors               Adam's moments at the end, when kept
      checkpoints/epoch-N/                weights (and moments, when kept) after each epoch, when asked for
      data_order.json                     which rows each step saw
      run.yaml                            settings, versions, hashes, losses, timings

The folder appears whole or not at all: it is written beside its place and renamed at the end.
"""

from __future__ import annotations

import copy
import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial as partial_of
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from whence.data import EncodedTurn, Encoder, Example
from whence.errors import EncodingError, InputError
from whence.files import new_folder
from whence.model import LoadedModel, ModelSettings, fingerprint, load_model, quiet
from whence.progress import Progress
from whence.run_file import RunCheckpoint, RunFile, RunHashes, RunRows, write_run_file
from whence.train.autocast import faster_in_bfloat16
from whence.train.chat_template import tokenizer_with_template
from whence.train.loop import Trained, TrainingSettings, learning_rate_at, train
from whence.train.lora import with_adapter
from whence.train.stored_dtype import COARSE, as_stored, in_float32

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ORDER, OPTIMIZER = "data_order.json", "optimizer.safetensors"
PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers")


class FinetuneSettings(TrainingSettings):
    """How a fine-tune runs and what it keeps.

    Raises pydantic's ValidationError, a ValueError, for a value outside its range and for a name that is no setting.
    """

    lora_r: int | None = Field(default=None, ge=1)
    """Rank of a LoRA adapter; None trains every weight, and the other LoRA settings are not used."""
    lora_alpha: float = Field(default=32.0, gt=0)
    """The adapter's scale is alpha / rank."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that is set to 0 in training."""
    lora_targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the modules that get an adapter, or every linear map of the decoder layers."""
    max_length: int = Field(default=512, ge=4)
    """Most tokens of a prompt and its response together; longer ones are cut."""
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """How the base is loaded, and saved when it is trained itself; its updates are always made in float32."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:N or mps."""
    checkpoints: bool = False
    """Keep the weights after every epoch."""
    keep_optimizer_state: bool = False
    """Keep Adam's moments beside the final weights and beside every checkpoint."""


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """Weights after an epoch, and the mean learning rate of that epoch's steps (a weight in TracInCP and LESS)."""

    path: Path
    learning_rate: float


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """What a fine-tune left on disk."""

    path: Path
    is_adapter: bool
    n_cut: int
    """Rows that lost tokens to `max_length`."""
    checkpoints: tuple[KeptCheckpoint, ...]
    losses: tuple[float, ...]
    """Loss of each step before its update, nats per token."""
    n_turns: int
    seconds: float


def finetune(
    base: str | Path | LoadedModel,
    examples: Sequence[Example],
    out: str | Path,
    *,
    settings: FinetuneSettings | None = None,
    encoder: Encoder | None = None,
    rows: RunRows | None = None,
    on_reject: Callable[[Example, EncodingError], None] | None = None,
    progress: Progress | None = None,
) -> FinetuneResult:
    """Fine-tunes `base` on the response tokens of `examples` and saves the result in the new folder `out`.

    The loss of a batch is the mean of its turns' mean losses. Equal settings, data, base and thread count give equal
    weights, bit for bit, on one machine. A base given in memory is copied, not changed.

    rows: source, columns and split of the examples, for run.yaml, from which `whence index` takes them over. A template
        that the encoder was given is saved there too, and with the tokenizer; and the day that a template wrote.
    on_reject: called with each example that cannot be encoded, which is then left out; None: such a one is an error.

    Raises:
        InputError: `out` is there already, nothing to train on, a base that already has an adapter, or a module that
            can have none.
        EncodingError, ModelError: as the encoder and the loader raise them.
        NonFiniteError: the loss left the finite numbers.
    """
    settings = settings or FinetuneSettings()
    out = Path(out)
    _check_free(out)
    started = time.perf_counter()
    loaded = _open(base, settings)
    settings = _settled(settings, loaded)
    encoder = encoder or Encoder(
        loaded.tokenizer, max_length=loaded.fitting(settings.max_length), n_embeddings=loaded.n_embeddings
    )
    units = list(_encoded(encoder, examples, on_reject))
    hashes = RunHashes(data=data_hash(examples), base=fingerprint(loaded, encoder.template).model_dump())
    dtypes = in_float32(loaded.model) if settings.lora_r is None else {}
    used = [examples[row] for row in dict.fromkeys(row for row, _ in units)]
    model, tokenizer = _trainable(loaded, settings), tokenizer_with_template(loaded.tokenizer, encoder, used)
    with new_folder(out) as partial:
        kept: list[KeptCheckpoint] = []
        turns = [turn for _, turn in units]
        save = partial_of(_save, model, tokenizer, dtypes, settings.keep_optimizer_state)
        trained = _train_and_keep(model, turns, settings, loaded.pad_id, partial, save, kept, progress)
        save(trained, partial)
        _write_order(partial / ORDER, trained, units)
        result = FinetuneResult(
            path=out,
            is_adapter=settings.lora_r is not None,
            checkpoints=tuple(KeptCheckpoint(out / k.path, k.learning_rate) for k in kept),
            losses=trained.losses,
            n_turns=len(units),
            n_cut=len({row for row, turn in units if turn.truncated}),
            seconds=time.perf_counter() - started,
        )
        write_run_file(partial, _run_file(settings, loaded, encoder, rows, hashes, result, kept, len(used)))
    return result


def _encoded(
    encoder: Encoder, examples: Sequence[Example], on_reject: Callable[[Example, EncodingError], None] | None
) -> Iterator[tuple[int, EncodedTurn]]:
    """Each turn with its example's position."""
    for row, example in enumerate(examples):
        try:
            turns = encoder.encode(example)
        except EncodingError as error:
            if on_reject is None:
                raise
            on_reject(example, error)
            continue
        yield from ((row, turn) for turn in turns)


def _check_free(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(
            f"{out} is there already", "expected a new folder", "Give another folder, or remove this one first."
        )


def _open(base: str | Path | LoadedModel, settings: FinetuneSettings) -> LoadedModel:
    if not isinstance(base, LoadedModel):
        base = load_model(ModelSettings(model=str(base), dtype=settings.dtype, device=settings.device))
    elif base.settings.adapter is None:
        base = LoadedModel.wrap(copy.deepcopy(base.model), base.tokenizer, base.settings)
    if base.settings.adapter is not None or hasattr(base.model, "peft_config"):
        raise InputError(
            f"the base {base.settings.model} has an adapter ({base.settings.adapter})",
            "expected a plain model",
            "Merge the adapter into the model first (`merge_and_unload` of peft), or give the model alone.",
        )
    return base


def _settled(settings: FinetuneSettings, loaded: LoadedModel) -> FinetuneSettings:
    """The settings with the base's dtype, and what is computed in: "auto" as it comes to here.

    Weights in bfloat16 or float16 that are trained themselves are so in float32, and bfloat16 is what is computed in.
    """
    autocast, dtype = settings.autocast, str(loaded.dtype).removeprefix("torch.")
    if autocast == "auto":
        autocast = "bfloat16" if faster_in_bfloat16(loaded.device.type) else "off"
    elif settings.lora_r is None and loaded.dtype in COARSE:
        autocast = "bfloat16"
    known = {"dtype": dtype if dtype in ("float32", "bfloat16") else "auto"}
    return settings.model_copy(update={"autocast": autocast, **known})


def _trainable(loaded: LoadedModel, settings: FinetuneSettings) -> PreTrainedModel:
    """The model with its parameters to train: all of them, or those of a fresh adapter."""
    if settings.lora_r is None:
        return loaded.model.requires_grad_(True)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(settings.seed)
        return with_adapter(
            loaded.model,
            r=settings.lora_r,
            alpha=settings.lora_alpha,
            dropout=settings.lora_dropout,
            targets=settings.lora_targets,
        )


def _train_and_keep(
    model: PreTrainedModel,
    turns: Sequence[EncodedTurn],
    settings: FinetuneSettings,
    pad_id: int,
    folder: Path,
    save: Callable[[Trained, Path], None],
    kept: list[KeptCheckpoint],
    progress: Progress | None,
) -> Trained:
    """Trains; saves a checkpoint after every epoch when asked, and lists it in `kept` relative to the folder."""

    def keep(epoch: int, so_far: Trained) -> None:
        if not settings.checkpoints:
            return
        place = Path("checkpoints") / f"epoch-{epoch}"
        save(so_far, folder / place)
        n, n_steps = so_far.steps_per_epoch, so_far.steps_per_epoch * settings.epochs
        rates = [learning_rate_at(step, n_steps, settings) for step in range((epoch - 1) * n, epoch * n)]
        kept.append(KeptCheckpoint(place, sum(rates) / n))

    return train(model, turns, settings, pad_id=pad_id, progress=progress, after_epoch=keep)


def _save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dtypes: Mapping[str, torch.dtype],
    optimizer_state: bool,
    trained: Trained,
    folder: Path,
) -> None:
    """The weights in the dtypes of the base and the tokenizer, ready for `load_model`, and Adam's moments if wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    with as_stored(model, dtypes):
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not optimizer_state:
        return
    from safetensors.torch import save_file

    state, group = trained.optimizer.state, trained.optimizer.param_groups[0]
    tensors, steps = {}, {0}
    for name, parameter in model.named_parameters():
        if parameter in state:
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{moment}/{name}"] = state[parameter][moment].contiguous().cpu()
            steps.add(int(state[parameter]["step"]))
    notes = {"step": max(steps), "beta1": group["betas"][0], "beta2": group["betas"][1], "eps": group["eps"]}
    save_file(tensors, folder / OPTIMIZER, metadata={key: str(value) for key, value in notes.items()})


def _write_order(path: Path, trained: Trained, units: Sequence[tuple[int, EncodedTurn]]) -> None:
    """`steps[s]` lists positions in `turns`; `turns[i]` is (row, turn of the row)."""
    order = {
        "turns": [[row, turn.turn] for row, turn in units],
        "steps_per_epoch": trained.steps_per_epoch,
        "steps": trained.order,
    }
    path.write_text(json.dumps(order) + "\n", encoding="utf-8")


def _run_file(
    settings: FinetuneSettings,
    loaded: LoadedModel,
    encoder: Encoder,
    rows: RunRows | None,
    hashes: RunHashes,
    result: FinetuneResult,
    kept: Sequence[KeptCheckpoint],
    n_examples: int,
) -> RunFile:
    base = _base_place(loaded)
    return RunFile(
        base=base,
        base_on_hub=bool(base) and not Path(base).is_dir(),
        settings=settings.model_dump(mode="json"),
        hashes=hashes,
        rows=(rows or RunRows()).model_copy(
            update={
                "template": encoder.template if encoder.template_source == "given" else None,
                "date": encoder.date,
                "max_length": encoder.max_length,
                "n_cut": result.n_cut,
            }
        ),
        n_examples=n_examples,
        n_turns=result.n_turns,
        n_steps=len(result.losses),
        loss={"first": result.losses[0], "last": result.losses[-1]},
        checkpoints=tuple(RunCheckpoint(path=str(k.path), learning_rate=k.learning_rate) for k in kept),
        seconds=round(result.seconds, 3),
        threads=torch.get_num_threads(),
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    )


def _base_place(loaded: LoadedModel) -> str:
    """Where the base is: a folder as an absolute path, a name on the hub as it is; "" of a model made in memory."""
    named = loaded.settings.model
    if Path(named).is_dir():
        return str(Path(named).resolve())
    return "" if named == type(loaded.model).__name__ else named


def data_hash(examples: Sequence[Example]) -> str:
    """Hash of the examples' content in their order."""
    return hashlib.blake2b("".join(e.id for e in examples).encode(), digest_size=16).hexdigest()
