"""kronfluence: EK-FAC influence, and the same dot product with the identity and with a diagonal Fisher.

Every method: per-example gradients of the mean response loss, preconditioned on the query's side; kronfluence's sign is
already "higher lowers the query's loss". Damping is its own heuristic, 0.1 times the mean eigenvalue of each module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from interface import IGNORED, MAX_LOGITS, Answer, PeerCase, own_model, padded, timed, vocabulary
from torch import Tensor, nn
from torch.nn import functional as F

from whence.data.examples import EncodedTurn
from whence.methods.base import TurnSet

BATCH = 64
"""Rows in a batch; fewer where the vocabulary is large."""
METHODS: dict[str, tuple[dict[str, Any], str | None, dict[str, Any]]] = {
    "ekfac": ({"strategy": "ekfac"}, "ekfac", {}),
    "ekfac-empirical": ({"strategy": "ekfac", "use_empirical_fisher": True}, "ekfac", {"fisher": "empirical"}),
    "diagonal": ({"strategy": "diagonal", "use_empirical_fisher": True}, None, {}),
    "identity": ({"strategy": "identity"}, "tracin", {}),
}
"""Name: options of kronfluence's factors, the method of whence that does the same, and its options."""


class Rows(torch.utils.data.Dataset[EncodedTurn]):
    """Rows from the longest to the shortest, so that a batch is padded little; `order[i]`: which row the i-th is."""

    def __init__(self, rows: TurnSet) -> None:
        self.turns = rows.turns
        self.order = sorted(range(len(self.turns)), key=lambda row: -len(self.turns[row].input_ids))

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, place: int) -> EncodedTurn:
        return self.turns[self.order[place]]


def batched(turns: Sequence[EncodedTurn], pad_id: int) -> dict[str, Tensor]:
    """A batch of padded tensors, labels moved to the positions that predict them.

    A row's last token predicts nothing: without it, the factors see the positions that whence's `ekfac` sees.
    """
    whole = padded(turns, pad_id)
    return {
        "input_ids": whole["input_ids"][:, :-1],
        "labels": whole["labels"][:, 1:],
        "attention_mask": whole["attention_mask"][:, 1:],
    }


def response_loss(model: nn.Module, batch: dict[str, Tensor], *, sample: bool) -> Tensor:
    """Sum over rows of the mean response loss; sampled: of tokens drawn from the model, over sqrt(n) instead of n.

    With sqrt(n) the mean square of the gradients is the Gauss-Newton matrix of the mean loss, as in whence's `ekfac`.
    """
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
    labels = batch["labels"]
    kept = labels != IGNORED
    if sample:
        drawn = torch.multinomial(logits.detach().softmax(dim=-1).flatten(0, 1), 1).view_as(labels)
        labels = torch.where(kept, drawn, IGNORED)
    nats = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
    n = kept.sum(dim=1)
    return (nats.sum(dim=1) / (n.sqrt() if sample else n)).sum()


def answers(planted: PeerCase, folder: Path, wanted: Sequence[str] = ()) -> Iterator[Answer]:
    """One answer a method of METHODS that is wanted; without names, all."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task
    from kronfluence.utils.dataset import DataLoaderKwargs

    model, weights = own_model(planted)
    modules = [name.removesuffix(".weight") for name in weights]

    class ResponseTask(Task):
        """The loss of the case's rows, on the adapter's linear maps."""

        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            return response_loss(model, batch, sample=sample)

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return response_loss(model, batch, sample=False)

        def get_influence_tracked_modules(self) -> list[str]:
            return modules

        def get_attention_mask(self, batch: Any) -> Tensor:
            return batch["attention_mask"]

    task, pad_id = ResponseTask(), planted.subject.loaded.pad_id
    analyzer = Analyzer("peer", prepare_model(model, task), task, cpu=True, disable_tqdm=True, output_dir=str(folder))
    train, queries = Rows(planted.train), Rows(planted.queries)
    analyzer.set_dataloader_kwargs(DataLoaderKwargs(collate_fn=partial(batched, pad_id=pad_id)))
    logits = max(len(turn.input_ids) for turn in planted.train.turns) * vocabulary(model)
    batch = max(1, min(BATCH, MAX_LOGITS // logits))
    for name, (options, same_as, same_options) in METHODS.items():
        if wanted and name not in wanted:
            continue
        torch.manual_seed(planted.subject.seed)
        factors = FactorArguments(**options)

        def fit(name: str = name, factors: FactorArguments = factors) -> None:
            analyzer.fit_all_factors(name, train, per_device_batch_size=batch, factor_args=factors)

        def ask(name: str = name) -> Tensor:
            analyzer.compute_pairwise_scores(
                name,
                factors_name=name,
                query_dataset=queries,
                train_dataset=train,
                per_device_query_batch_size=len(queries),
                per_device_train_batch_size=batch,
                score_args=ScoreArguments(damping_factor=None),
            )
            found = analyzer.load_pairwise_scores(name)["all_modules"]
            scores = torch.empty_like(found)
            scores[torch.tensor(queries.order)[:, None], torch.tensor(train.order)] = found
            return scores

        _, seconds_fit = timed(fit)
        scores, seconds_score = timed(ask)
        yield Answer(
            method=f"peer:kronfluence-{name}",
            scores=scores,
            seconds_fit=seconds_fit,
            seconds_score=seconds_score,
            options={**options, "damping_factor": None, "modules": "lora"},
            same_as=same_as,
            same_options=same_options,
        )
