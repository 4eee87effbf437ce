"""The model under diagnosis, opened once for a build or a plan: with its base, its encoder, its layer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import NamedTuple

from pydantic import JsonValue

from whence.data import EncodedTurn, Encoder, Example, read_examples
from whence.errors import EncodingError
from whence.index.manifest import ADAPTER_OFF
from whence.index.settings import BuildSettings
from whence.model import (
    LoadedModel,
    base_settings,
    check_base,
    choose_layer_from,
    has_before,
    load_model,
    probe_similarities,
    settle_layers,
    weights_hash,
)
from whence.progress import Count


class Subject(NamedTuple):
    """What is read: the fine-tuned model, the one before it, and how rows become tokens.

    base: None where there is none, or where it is `loaded` with its adapter turned off.
    """

    loaded: LoadedModel
    base: LoadedModel | None
    encoder: Encoder
    contrast: bool
    """Whether what fine-tuning changed can be read, and is asked for."""

    def base_identity(self) -> str:
        """`Manifest.base`: what the model is compared with."""
        if not self.contrast:
            return ""
        return ADAPTER_OFF if self.base is None else weights_hash(self.base)


def open_subject(settings: BuildSettings, *, notify: Callable[[str], None] | None = None) -> Subject:
    """Loads model, base and tokenizer. Raises ModelError, and MismatchError for a base that cannot be the base.

    notify: called with a sentence where the model was not read as it is stored.
    """
    loaded = load_model(settings.model_settings, template_given=settings.template is not None, notify=notify)
    encoder = Encoder(
        loaded.tokenizer,
        template=settings.template,
        max_length=loaded.fitting(settings.max_length),
        rows=settings.row_encoding,
        n_embeddings=loaded.n_embeddings,
    )
    base = _load_base(settings, loaded)
    return Subject(loaded, base, encoder, settings.contrast and has_before(loaded, base))


def _load_base(settings: BuildSettings, loaded: LoadedModel) -> LoadedModel | None:
    """The base that is to be compared with, where it is a model of its own."""
    if not settings.contrast or (settings.base is None and loaded.adapter_off_is_base):
        return None
    # An adapter that brings biases or embeddings of the base with it is compared with the base by itself.
    base = load_model(base_settings(loaded.settings, settings.base))
    check_base(loaded, base)
    # An adapter turned off is the same model, and needs no second one in memory.
    return None if has_before(loaded) else base


def chosen_layers(
    settings: BuildSettings,
    subject: Subject,
    n_rows: int,
    *,
    known: JsonValue = None,
    n_probes: int | None = None,
    progress: Count | None = None,
) -> tuple[tuple[int, ...], dict[str, JsonValue]]:
    """The layers asked for, in that order, and how they were chosen.

    known: evidence of an earlier choice, which an unfinished index keeps. n_probes: in place of the settings' number.
    """
    choice: dict[str, JsonValue] = {"request": list(settings.requests)}

    def by_rule() -> int:
        evidence = known if isinstance(known, dict) else _evidence(settings, subject, n_rows, n_probes, progress)
        choice["auto"] = evidence
        return int(str(evidence["layer"]))

    return settle_layers(settings.requests, subject.loaded.n_layers, by_rule), choice


def _evidence(
    settings: BuildSettings, subject: Subject, n_rows: int, n_probes: int | None, progress: Count | None
) -> dict[str, JsonValue]:
    """The rule's choice with its evidence, as JSON."""
    n_probes = n_probes or settings.n_probes
    probes = probe_turns(
        examples_to_index(settings), subject.encoder, n_rows=n_rows, n_probes=n_probes, seed=settings.seed
    )
    made = choose_layer_from(probe_similarities(subject.loaded, probes, progress=progress), seed=settings.seed)
    share: dict[str, JsonValue] = {str(layer): part for layer, part in made.share.items()}
    return asdict(made) | {"similarity": list(made.similarity), "share": share}


def examples_to_index(settings: BuildSettings) -> Iterator[Example]:
    """The usable rows of the settings' data, the same ones in the same order at each call."""
    return read_examples(settings.data, columns=settings.columns, split=settings.split)


def probe_turns(
    examples: Iterable[Example], encoder: Encoder, *, n_rows: int, n_probes: int = 128, seed: int = 0
) -> list[EncodedTurn]:
    """The first turns of `n_probes` rows drawn without replacement; rows that cannot be encoded are left out.

    Memory: the probes. The draw depends on n_rows, n_probes and seed alone.
    """
    drawn = set(random.Random(seed).sample(range(n_rows), min(n_probes, n_rows)))
    probes: list[EncodedTurn] = []
    for row, example in enumerate(islice(examples, max(drawn, default=-1) + 1)):
        if row in drawn:
            try:
                probes.append(encoder.encode(example)[0])
            except EncodingError:
                # Counted and written down when the row's shard is built.
                continue
    return probes


__all__ = ["Subject", "chosen_layers", "examples_to_index", "open_subject", "probe_turns"]
