"""Rotations that differ with the length of the whole text ("longrope", "dynamic"): which turns may be run together.

transformers chooses them once a call, by its longest row; a row must be rotated as in a call of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from whence.data import EncodedTurn

if TYPE_CHECKING:
    from whence.model.loading import LoadedModel

LENGTH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})

Batches = Callable[[Sequence[EncodedTurn]], Iterator[list[int]]]
"""Numbers of turns, batch by batch."""


def depends_on_length(config: object) -> bool:
    """Whether a text's rotations differ with its length, by the config of the language model."""
    return bool(_ropes(config))


def batches_alike(loaded: LoadedModel, turns: Sequence[EncodedTurn], batches: Batches) -> Iterator[list[int]]:
    """Batches of turns whose rotations are the same together as alone; those of `batches` for most models.

    Such a batch is laid out with the turns' last tokens (`laid_out(whole=True)`), so that it is as long as they are.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    ropes = _ropes(loaded.text_config)
    for i, turn in enumerate(turns):
        groups.setdefault(tuple(_kind(rope, limit, len(turn.input_ids)) for rope, limit in ropes), []).append(i)
    for _, group in sorted(groups.items()):
        for batch in batches([turns[i] for i in group]):
            yield [group[i] for i in batch]


def _kind(rope: str, limit: int, length: int) -> int:
    """Equal for lengths with equal rotations: longrope has two sets of them, dynamic one for each length."""
    if length <= limit:
        return 0
    return 1 if rope == "longrope" else length


def _ropes(config: object) -> list[tuple[str, int]]:
    """(type, longest text with the first rotations) of each rope that depends on the length."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    # Some families have one for each type of layer.
    each = [part for part in found.values() if isinstance(part, Mapping)] or [found]
    longest = getattr(config, "max_position_embeddings", 0)
    ropes = []
    for rope in each:
        kind = rope.get("rope_type", "default")
        own = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
        if kind in LENGTH_DEPENDENT_ROPE:
            ropes.append((kind, int((own if kind == "longrope" else None) or longest)))
    return ropes


__all__ = ["batches_alike", "depends_on_length"]
