"""`choose_layer`: the layer rule on a model and its data, without building an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from whence.data import Encoder, read_examples, scan
from whence.errors import InputError
from whence.index.subject import probe_turns
from whence.model import LayerChoice, LoadedModel, ModelSettings, choose_layer_from, load_model, probe_similarities
from whence.progress import Progress, counted


def choose_layer(
    model: str | Path | ModelSettings | LoadedModel,
    data: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    template: str | None = None,
    max_length: int = 1024,
    n_probes: int = 128,
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> LayerChoice:
    """The layer that the paper's rule chooses for this model on this data, with its evidence.

    model:    a folder or hub name, its settings, or a loaded model.
    n_probes: rows drawn from the data without replacement; the draw depends on the seed alone.

    Raises:
        InputError: the model or the data cannot be used.
    """
    if n_probes < 1:
        raise InputError(f"n_probes = {n_probes}", "At least one row must be read.", "Give --probes 1 or more.")
    n_rows = scan(data, columns=columns, split=split, max_rejected=1.0).n_rows
    if not isinstance(model, LoadedModel):
        model = load_model(model if isinstance(model, ModelSettings) else ModelSettings(model=str(model)))
    encoder = Encoder(model.tokenizer, template=template, max_length=model.fitting(max_length))
    examples = read_examples(data, columns=columns, split=split)
    probes = probe_turns(examples, encoder, n_rows=n_rows, n_probes=n_probes, seed=seed)
    similarities = probe_similarities(model, probes, progress=counted(progress, "reading probes"))
    return choose_layer_from(similarities, n_bootstrap=n_bootstrap, seed=seed)
