"""bergson: the cosine of two gradients, whole or projected, and TrackStar (arXiv 2410.17413) as its parts make it.

Gradients of the mean response loss of every linear map of the adapter, collected by bergson's hooks into an index on
disk; queries' gradients by the same hooks in memory; scores from bergson's `Attributor`.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from interface import IGNORED, MAX_LOGITS, Answer, PeerCase, own_model, timed, vocabulary
from torch import Tensor

from whence.methods.base import TurnSet

BATCH_TOKENS = 4096
PROJECTION = 16
"""Rows and columns of a module's projected gradient: what bergson's commands take. 64 is TrackStar's best on bergson's
own leaderboard; by arithmetic its matrices of a model with 420 adapted modules take 28 GB."""


class Collected:
    """bergson on one model: gradients of rows, in an index or in memory."""

    def __init__(self, planted: PeerCase, processor: Any) -> None:
        self.model, weights = own_model(planted)
        prefix = "base_model."
        self.targets = {name.removeprefix(prefix).removesuffix(".weight") for name in weights}
        self.processor = processor

    def _parts(self, rows: TurnSet, folder: Path) -> dict[str, Any]:
        from bergson import IndexConfig
        from bergson.data import allocate_batches
        from datasets import Dataset

        turns = rows.turns
        columns = {
            "input_ids": [list(turn.input_ids) for turn in turns],
            "labels": [[IGNORED] * turn.n_prompt + list(turn.input_ids[turn.n_prompt :]) for turn in turns],
            "length": [len(turn.input_ids) for turn in turns],
        }
        cfg = IndexConfig(
            run_path=str(folder), loss_reduction="mean", projection_dim=self.processor.projection_dim or 0
        )
        cfg.partial_run_path.mkdir(parents=True)
        return {
            "data": Dataset.from_dict(columns),
            "cfg": cfg,
            "batches": allocate_batches(columns["length"], min(BATCH_TOKENS, MAX_LOGITS // vocabulary(self.model))),
        }

    def index(self, rows: TurnSet, folder: Path) -> Path:
        """An index of the rows' gradients on disk."""
        from bergson import collect_gradients

        parts = self._parts(rows, folder)
        collect_gradients(model=self.model, processor=self.processor, target_modules=self.targets, **parts)
        return parts["cfg"].partial_run_path

    def gradients(self, rows: TurnSet, folder: Path, *, curvature: bool = False) -> dict[str, Tensor]:
        """module -> [rows, its gradient]; with curvature, the processor learns each module's mean outer product."""
        from bergson import CollectorComputer, InMemoryCollector

        parts = self._parts(rows, folder)
        collector = InMemoryCollector(
            model=self.model.base_model,
            data=parts["data"],
            cfg=parts["cfg"],
            processor=self.processor,
            target_modules=self.targets,
            skip_hessians=not curvature,
        )
        CollectorComputer(model=self.model, collector=collector, **parts).run_with_collector_hooks()
        return collector.gradients


def second_moments(planted: PeerCase, targets: set[str]) -> dict[str, Any]:
    """Adam's second moments of the run's last checkpoint, as bergson's normalisers."""
    from bergson.gradients import AdamNormalizer

    state = planted.subject.checkpoints[-1].adam()
    if state is None:
        raise SystemExit("TrackStar needs Adam's moments; this case's fine-tune did not keep them.")
    moments = {name.removesuffix(".weight"): value for name, value in state.exp_avg_sq.items()}
    return {name: AdamNormalizer(moments[f"base_model.{name}"]) for name in sorted(targets)}


def full_matrix(attributor: Any, queries: dict[str, Tensor]) -> Tensor:
    """scores[q, t] from a search for all rows, which comes back sorted."""
    values, rows = attributor.search(queries, None)
    return torch.empty_like(values).scatter_(1, rows, values)


def answers(planted: PeerCase, folder: Path, wanted: Sequence[str] = ()) -> Iterator[Answer]:
    """One answer a method of METHODS that is wanted; without names, all."""
    for name, answer in METHODS.items():
        if not wanted or name in wanted:
            with quiet():
                found = answer(planted, folder / name)
            yield found


def gradient_cosine(planted: PeerCase, folder: Path, projection: int = 0) -> Answer:
    """Cosines of gradients, whole, or of their projections, as `bergson build` and `bergson query --unit_norm` do."""
    from bergson import Attributor, GradientProcessor

    seed = planted.subject.seed
    plain = Collected(planted, GradientProcessor(projection_dim=projection or None, projection_seed=seed))
    index, seconds_fit = timed(lambda: plain.index(planted.train, folder / "rows"))
    scores, seconds_score = timed(
        lambda: full_matrix(Attributor(index, unit_norm=True), plain.gradients(planted.queries, folder / "queries"))
    )
    return Answer(
        method=f"peer:bergson-{'projected' if projection else 'gradient'}-cosine",
        scores=scores,
        seconds_fit=seconds_fit,
        seconds_score=seconds_score,
        options={"projection_dim": projection, "unit_norm": True, "loss_reduction": "mean", "modules": "lora"},
        same_as=None if projection else "gradient-cosine",
    )


def trackstar(planted: PeerCase, folder: Path, *, adam: bool = True) -> Answer:
    """TrackStar; without Adam's moments, bergson's "no optimizer correction"."""
    from bergson import Attributor, GradientProcessor

    star = Collected(planted, GradientProcessor(projection_dim=PROJECTION, projection_seed=planted.subject.seed))
    if adam:
        star.processor.normalizers = second_moments(planted, star.targets)

    def fit() -> tuple[Path, Path]:
        place = star.index(planted.train, folder / "rows")
        star.gradients(planted.train, folder / "curvature-rows", curvature=True)
        star.processor.save(folder / "curvature")
        star.processor.hessians = {}
        return place, folder / "curvature"

    (index, curvature), seconds_fit = timed(fit)
    scores, seconds_score = timed(
        lambda: full_matrix(
            Attributor(index, unit_norm=True, hessian_path=curvature),
            star.gradients(planted.queries, folder / "queries"),
        )
    )
    return Answer(
        method="peer:bergson-trackstar" if adam else "peer:bergson-trackstar-uncorrected",
        scores=scores,
        seconds_fit=seconds_fit,
        seconds_score=seconds_score,
        options={
            "projection_dim": PROJECTION,
            "normalizer": "adam, last checkpoint" if adam else None,
            "hessian": "autocorrelation of the training rows",
            "mix_hessians": False,
            "damping_factor": 0.1,
            "unit_norm": True,
            "loss_reduction": "mean",
            "modules": "lora",
        },
    )


METHODS: dict[str, Callable[[PeerCase, Path], Answer]] = {
    "gradient-cosine": gradient_cosine,
    "projected-cosine": partial(gradient_cosine, projection=PROJECTION),
    "trackstar": trackstar,
    "trackstar-uncorrected": partial(trackstar, adam=False),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without bergson's bars and notes."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
