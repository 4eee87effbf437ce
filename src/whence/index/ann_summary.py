"""What the manifest says of an index's approximate search: what it was made from, and how well it finds rows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

ANN = "ann"
"""Folder of the approximate search; see whence.index.ann_build."""


class AnnPoint(BaseModel):
    """What was measured at a number of probes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_probes: int
    """Partitions that a query reads."""
    recall: float
    """Mean share of the ten best rows of an exact search that are among the ten best found."""
    milliseconds: float
    """Median of a query, on the machine that built it."""


class Ann(BaseModel):
    """The approximate search of an index in one state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: str
    version: str
    layers: str
    """Of the score form that it finds rows for, as `ScoreForm.described` writes them."""
    generation: int
    """Of the manifest whose rows it was made from: later ones have other rows."""
    kind: str
    """Lance's name of the index kind."""
    dim: int
    kept: float
    """Dimensions of a searched vector, and their share of the sample's variance."""
    n_partitions: int
    n_sample: int
    """Records that the dimensions were chosen by."""
    n_candidates: int
    """Records that a query takes from each of its searches, to score them exactly."""
    n_queries: int
    """Rows of the index that were asked to measure the recall, each without itself."""
    curve: tuple[AnnPoint, ...]
    seconds: float
    """To build and measure."""

    def point_for(self, target: float) -> AnnPoint | None:
        """The fewest probes with that recall; None where none of those measured has it."""
        return next((point for point in self.curve if point.recall >= target), None)


__all__ = ["ANN", "Ann", "AnnPoint"]
