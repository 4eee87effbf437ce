"""Outputs that point to the same rows: communities of a graph of outputs and rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from math import fsum

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
    """The groups, with those that overlap by `MERGED` or more made one, the most alike first, of equal ones the first.

    Only groups that share a row are compared.
    """
    means = [mean_weights(group, outputs) for group in groups]
    groups_of: dict[int, set[int]] = defaultdict(set)
    for number, mean in enumerate(means):
        for row in mean:
            groups_of[row].add(number)
    sizes = [len(group) for group in groups]
    changes = [0] * len(groups)
    pairs: list[tuple[float, int, int, int, int]] = []

    def compare(one: int, others: set[int]) -> None:
        for other in others:
            overlap = _overlap(means[one], means[other])
            if overlap >= MERGED:
                first, second = sorted((one, other))
                heappush(pairs, (-overlap, first, second, changes[first], changes[second]))

    def beside(number: int) -> set[int]:
        return {other for row in means[number] for other in groups_of[row]} - {number}

    for number in range(len(groups)):
        compare(number, {other for other in beside(number) if other > number})
    while pairs:
        _, one, other, of_one, of_other = heappop(pairs)
        if (of_one, of_other) != (changes[one], changes[other]):
            continue  # of groups that were merged since
        groups[one], groups[other] = sorted(groups[one] + groups[other]), []
        # The mean over both is the means' mean, weighed by their sizes.
        size = sizes[one] + sizes[other]
        for row in means[other]:
            groups_of[row] = groups_of[row] - {other} | {one}
        means[one] = {
            row: (sizes[one] * means[one].get(row, 0.0) + sizes[other] * means[other].get(row, 0.0)) / size
            for row in {**means[one], **means[other]}
        }
        sizes[one], means[other] = size, {}
        changes[one] += 1
        changes[other] += 1
        compare(one, beside(one))
    return [group for group in groups if group]


def _overlap(one: Weights, other: Weights) -> float:
    few, many = sorted((one, other), key=len)
    return fsum(min(weight, many[row]) for row, weight in few.items() if row in many)


__all__ = ["MERGED", "RESOLUTION", "Weights", "communities", "mean_weights"]
