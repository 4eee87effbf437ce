"""Several bad outputs of one fault: does asking them together find more than asking one, and how should they be joined?

    python benchmarks/several_outputs.py --models runs/bench/models --seeds 0 1 2 [--out several.json]

Per case (planted as in `whence bench`; models are kept in --models) groups of 1, 2, 4, ... queries that show the fault
are drawn at random. Each group gets one ranking of all rows, in several ways:

mean score:       mean over the group of what each query scores; what is in the figures for one query
best score:       the highest of them
best rank:        the best place that any of them gives the row; ties by mean score
mean rank:        the mean of these places
mean signature:   the mean of their unit vectors is asked as one query, with a second pass of its own
first direction:  as before, with the first principal direction of their unit vectors (low rank)
agreeing:         as mean signature, each query weighed by its mean cosine with the others (covariance-aware)

Printed: average precision over the full ranking, mean over groups, then over cases, by size of the group; 95% intervals
draw the cases again.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whence.bench.cases import BenchSettings, made_case, named
from whence.bench.faults import FAULTS
from whence.bench.subject import train_case
from whence.errors import InputError
from whence.methods.base import SharedWork
from whence.metrics.retrieval import average_precision, bootstrap
from whence.scoring.defaults import DEFAULT_METHOD, score_form
from whence.scoring.forms import Depths, form_scores
from whence.scoring.vectors import Block, Vectors, to_block
from whence.trace.explain.prompt_attribution.comparison import Comparison

SIZES = (1, 2, 4, 8)
GROUPS = 20
Unit = Float[Tensor, "n dim"]


def mean_vector(unit: Unit) -> Unit:
    return unit.mean(0, keepdim=True)


def first_direction(unit: Unit) -> Unit:
    """The first right singular vector, on the side of the mean."""
    direction = torch.linalg.svd(unit, full_matrices=False).Vh[:1]
    turned: Unit = direction * torch.sign((direction @ unit.T).sum())
    return turned


def agreeing(unit: Unit) -> Unit:
    """The mean, weighed by how each agrees with the others; negative agreement counts as none."""
    if len(unit) == 1:
        return unit
    agreement = ((unit @ unit.T).sum(1) - 1).clamp_min(0) / (len(unit) - 1)
    total = agreement.sum()
    return (agreement / total)[None] @ unit if total > 0 else unit.mean(0, keepdim=True)


JOINED: dict[str, Callable[[Unit], Unit]] = {
    "mean signature": mean_vector,
    "first direction": first_direction,
    "agreeing": agreeing,
}


def joined(block: Block, chosen: Sequence[int], how: Callable[[Unit], Unit]) -> Block:
    """One query in place of several; its vectors are unit vectors again."""

    def one(vectors: Vectors) -> Vectors:
        unit = how(vectors.unit[list(chosen)].double())
        unit = unit / unit.norm(dim=1, keepdim=True).clamp_min(1e-30)
        return Vectors(unit.to(vectors.unit.dtype), torch.ones(1, dtype=vectors.norm.dtype))

    return {layer: {name: one(vectors) for name, vectors in by_name.items()} for layer, by_name in block.items()}


def by_scores(scores: Float[np.ndarray, "n_query n_train"]) -> dict[str, Float[np.ndarray, " n_train"]]:
    """The ways that need no more than each query's scores."""
    place = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    mean = scores.mean(0)
    best_rank = -place.min(0).astype(float) + (mean - mean.min()) / (np.ptp(mean) + 1e-12) * 0.999
    return {"mean score": mean, "best score": scores.max(0), "best rank": best_rank, "mean rank": -place.mean(0)}


def case_figures(task: str, variant: str, seed: int, models: Path) -> Iterator[tuple[str, int, float]]:
    """(way, size of the group, average precision) of every group of one case. Raises InputError: fault not learned."""
    settings = BenchSettings(seeds=(seed,))
    case = made_case(settings, task, variant, seed)
    planted = train_case(case, settings, models, SharedWork(), lambda stage, done, total: None)
    if planted.queries is None:
        raise InputError(f"No answer of {case.name} shows the fault.", "The model must have learned it.")
    loaded, form = planted.subject.loaded, score_form(DEFAULT_METHOD)
    roles = form.layers(Depths(planted.subject.rep_layer, loaded.n_layers))
    comparison = Comparison(loaded, form, roles)
    rows, asked = (comparison.extracted(side.turns) for side in (planted.train, planted.queries))
    centres = {(n, name): raw.double().mean(0) for n, one in rows.layers.items() for name, raw in one.named().items()}
    train, queries = to_block(rows.layers, centres), to_block(asked.layers, centres)
    faulty = np.array(case.faulty)[planted.row_of]
    scores = form_scores(form, queries, train, roles, rows.log_likelihood_gain).double().numpy()
    rng = np.random.default_rng(seed)
    for size in (size for size in SIZES if size <= len(scores)):
        for _ in range(GROUPS):
            chosen = sorted(rng.choice(len(scores), size, replace=False).tolist())
            for way, ranked in by_scores(scores[chosen]).items():
                yield way, size, average_precision(ranked, faulty)
            for way, how in JOINED.items():
                found = form_scores(form, joined(queries, chosen, how), train, roles, rows.log_likelihood_gain)
                yield way, size, average_precision(found[0].double().numpy(), faulty)


def main() -> None:
    """Prints a table per variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["all"])
    parser.add_argument("--variants", nargs="+", default=["hard-negatives", "two-causes"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, one thread, torch {torch.__version__}, seeds {options.seeds}, {DEFAULT_METHOD}")
    found: dict[str, dict[tuple[str, int], list[tuple[str, int, float]]]] = {}
    for variant in options.variants:
        cases = found.setdefault(variant, {})
        for seed in options.seeds:
            for task in named("task", options.tasks, list(FAULTS)):
                try:
                    cases[task, seed] = list(case_figures(task, variant, seed, options.models))
                except InputError as error:
                    print(f"left out: {error}")
        print_table(variant, cases)
    if options.out:
        rows = [
            {"variant": variant, "task": task, "seed": seed, "way": way, "size": size, "ap": ap}
            for variant, cases in found.items()
            for (task, seed), figures in cases.items()
            for way, size, ap in figures
        ]
        options.out.write_text(json.dumps(rows) + "\n", encoding="utf-8")


def print_table(variant: str, cases: dict[tuple[str, int], list[tuple[str, int, float]]]) -> None:
    """Mean over cases with as many queries as the largest group; then the false facts alone."""
    large = {key: figures for key, figures in cases.items() if max(size for _, size, _ in figures) == max(SIZES)}
    for title, wanted in (("all tasks", list(large)), ("false facts", [k for k in large if k[0].startswith("false")])):
        print(f"\n{variant}, {title}: {len(wanted)} cases\n\n| way | " + " | ".join(map(str, SIZES)) + " |")
        print("|---" * (1 + len(SIZES)) + "|")
        means: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for key in wanted:
            own: dict[tuple[str, int], list[float]] = defaultdict(list)
            for way, size, ap in large[key]:
                own[way, size].append(ap)
            for (way, size), values in own.items():
                means[way][size].append(float(np.mean(values)))
        for way, by_size in means.items():
            print(f"| {way} | " + " | ".join(str(bootstrap(by_size[size])) for size in SIZES) + " |")


if __name__ == "__main__":
    main()
