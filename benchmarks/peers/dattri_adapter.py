"""dattri: TracIn and the cosine of gradients, DataInf, and TRAK, on the adapter's weights.

dattri takes a loss as a function of the trainable weights and maps it over a batch with torch.func, so every row is
padded to one width. Its sign is already "higher means more responsible".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from interface import IGNORED, Answer, PeerCase, own_model, padded, timed
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from whence.methods.base import TurnSet
from whence.methods.gradients.source import Gradients, dampings

BATCH = 64
DAMPING = 0.1
"""DataInf's, as a share of a weight's mean squared gradient (Kwon et al. 2024, section 3)."""
PROJECTION = 128
"""Of TRAK: well below the number of rows, so that its kernel can be inverted without a ridge."""

Weights = dict[str, Tensor]
Batch = tuple[Tensor, Tensor, Tensor]


def loader(rows: TurnSet, pad_id: int) -> DataLoader[tuple[Tensor, ...]]:
    """Batches of (input_ids, labels, attention_mask), in order."""
    tensors = padded(rows.turns, pad_id)
    data = TensorDataset(tensors["input_ids"], tensors["labels"], tensors["attention_mask"])
    return DataLoader(data, batch_size=BATCH, shuffle=False)


def mean_nats(model: nn.Module, weights: Weights, batch: Batch) -> Tensor:
    """Mean cross-entropy of one row's response, nats per token."""
    ids, labels, mask = (part.reshape(1, -1) for part in batch)
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    logits = functional_call(model, weights, (), inputs).logits[0, :-1].float()
    wanted = labels[0, 1:]
    kept = wanted != IGNORED
    nats = F.cross_entropy(logits, torch.where(kept, wanted, 0), reduction="none")
    return (nats * kept).sum() / kept.sum()


def rescaled(loss: Callable[[Weights, Batch], Tensor], at: Weights, scale: dict[str, float]) -> Any:
    """The same loss, its gradient with respect to weight p multiplied by scale[p].

    dattri's DataInf has one damping for all weights, the paper has one a weight. DataInf does not change when a weight
    and its damping are rescaled together, so this gives each weight its own.
    """

    def scaled(weights: Weights, batch: Batch) -> Tensor:
        moved = {name: at[name] + scale[name] * (weights[name] - at[name]) for name in weights}
        return loss(moved, batch)

    return scaled


def answers(planted: PeerCase, folder: Path, wanted: Sequence[str] = ()) -> Iterator[Answer]:
    """TracIn, cosine, DataInf, TRAK: always all of them."""
    if wanted:
        raise SystemExit(f"dattri's methods are run all together; found --methods {' '.join(wanted)}.")
    from dattri.algorithm import IFAttributorDataInf, TracInAttributor, TRAKAttributor
    from dattri.task import AttributionTask

    model, weights = own_model(planted)
    model.set_attn_implementation("eager")  # torch.func would take fused attention row by row
    at = {name: weight.detach().clone() for name, weight in weights.items()}
    pad_id = planted.subject.loaded.pad_id
    train, queries = loader(planted.train, pad_id), loader(planted.queries, pad_id)

    def loss(weights: Weights, batch: Batch) -> Tensor:
        return mean_nats(model, weights, batch)

    def task(function: Any) -> Any:
        return AttributionTask(function, model, at, checkpoints_load_func=lambda model, _: model)

    @torch.no_grad()  # torch.func takes its own gradients; dattri would keep a graph of every batch beside them
    def answer(name: str, attributor: Any, options: dict[str, Any], same_as: str | None) -> Answer:
        fits = not isinstance(attributor, TracInAttributor)
        _, seconds_fit = timed(lambda: attributor.cache(train) if fits else None)
        given = (queries,) if isinstance(attributor, TRAKAttributor) else (train, queries)
        scores, seconds_score = timed(lambda: attributor.attribute(*given))
        return Answer(f"peer:dattri-{name}", scores.T, seconds_fit, seconds_score, options, same_as)

    for name, normalised, same_as in (("tracin", False, "tracin"), ("gradient-cosine", True, "gradient-cosine")):
        attributor = TracInAttributor(task(loss), torch.ones(1), normalised)
        attributor.projector_kwargs = None  # None in the constructor means a projection to 512 numbers
        yield answer(name, attributor, {"normalized_grad": normalised, "projection": None, "modules": "lora"}, same_as)

    gradients = Gradients(planted.subject, planted.train)
    found = dict(zip(gradients.layout.names, dampings(gradients, DAMPING), strict=True))
    scale = {name: (DAMPING / value) ** 0.5 if value > 0 else 0.0 for name, value in found.items()}
    yield answer(
        "datainf",
        IFAttributorDataInf(task(rescaled(loss, at, scale)), regularization=DAMPING),
        {"regularization": DAMPING, "damping": "0.1 times each weight's mean squared gradient", "modules": "lora"},
        "datainf",
    )

    def margin(weights: Weights, batch: Batch) -> Tensor:
        nats = mean_nats(model, weights, batch)
        return -nats - torch.log(-torch.expm1(-nats))

    def probability(weights: Weights, batch: Batch) -> Tensor:
        return torch.exp(-mean_nats(model, weights, batch))

    projector = {"proj_dim": PROJECTION, "proj_seed": planted.subject.seed, "device": "cpu"}
    trak = TRAKAttributor(task(margin), probability, projector_kwargs=projector)
    yield answer("trak", trak, {**projector, "regularization": 0.0, "checkpoints": 1, "modules": "lora"}, None)
