"""Outputs that point to the same rows: communities of a graph of outputs and rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

RESOLUTION = 1.0
"""Of the modularity, the usual one. A lower one joins small groups to large ones over a single stray row."""
MOST_ROWS = 60
"""Edges of one output: those of its best rows. What is behind them weighs little and costs time."""
MERGED = 0.25
"""Communities whose outputs share this much of their rows' weight are one: the modularity cannot see small groups in
large graphs, nor that two halves of one group know the same rows."""

Weights = Mapping[int, float]
"""row -> weight, of one output; the weights sum to 1."""


def communities(outputs: Sequence[Weights], *, seed: int = 0) -> list[list[int]]:
    """Groups of outputs, each ascending, the largest first; an output that shares no row with others is alone.

    The graph has a node for each output and for each row, and an edge of weight w[i, t] where row t is flagged for
    output i. Louvain's method (Blondel et al. 2008), as networkx has it, gives communities; those whose mean weights

        W_c[t] = mean over outputs i in c of w[i, t],     overlap(c, d) = sum_t min(W_c[t], W_d[t])

    overlap by `MERGED` or more are then merged, the most alike first.
    """
    import networkx as nx
    from networkx.algorithms.community import louvain_communities

    graph = nx.Graph()
    for number, weights in enumerate(outputs):
        graph.add_node(("output", number))
        best = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:MOST_ROWS]
        graph.add_weighted_edges_from((("output", number), ("row", row), weight) for row, weight in best)
    found = louvain_communities(graph, resolution=RESOLUTION, seed=seed)
    groups = [sorted(number for kind, number in members if kind == "output") for members in found]
    merged = _merged([group for group in groups if group], outputs)
    return sorted(merged, key=lambda group: (-len(group), group[0]))


def mean_weights(group: Sequence[int], outputs: Sequence[Weights]) -> dict[int, float]:
    """W[t], the mean weight of each row over the group's outputs; the weights sum to 1."""
    found: dict[int, float] = defaultdict(float)
    for number in group:
        for row, weight in outputs[number].items():
            found[row] += weight / len(group)
    return dict(found)


def _merged(groups: list[list[int]], outputs: Sequence[Weights]) -> list[list[int]]:
    """The groups, with those that overlap by `MERGED` or more made one, the most alike first."""
    known = {row: place for place, row in enumerate(sorted({row for weights in outputs for row in weights}))}
    table = np.zeros((len(groups), len(known)))  # W_c[t], [n_group, n_row]
    for g, group in enumerate(groups):
        for row, weight in mean_weights(group, outputs).items():
            table[g, known[row]] = weight
    # overlap[c, d], [n_group, n_group]; -1 where there is nothing to merge.
    overlap = np.stack([np.minimum(mean, table).sum(axis=1) for mean in table]) if groups else np.empty((0, 0))
    np.fill_diagonal(overlap, -1.0)
    sizes = np.array([len(group) for group in groups], dtype=float)
    while len(groups) > 1 and overlap.max() >= MERGED:
        one, other = sorted(np.unravel_index(int(overlap.argmax()), overlap.shape))
        groups[one], groups[other] = sorted(groups[one] + groups[other]), []
        # The mean over both is the means' mean, weighed by their sizes.
        table[one] = (sizes[one] * table[one] + sizes[other] * table[other]) / (sizes[one] + sizes[other])
        sizes[one] += sizes[other]
        overlap[one] = overlap[:, one] = np.where(overlap[one] < -0.5, -1.0, np.minimum(table[one], table).sum(axis=1))
        overlap[other] = overlap[:, other] = -1.0
        overlap[one, other] = overlap[other, one] = overlap[one, one] = -1.0
    return [group for group in groups if group]


__all__ = ["MERGED", "RESOLUTION", "Weights", "communities", "mean_weights"]
