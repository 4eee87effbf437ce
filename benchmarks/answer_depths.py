"""At which depth do states tell faulty rows from others? Average precision of each vector alone, layer by layer.

    python benchmarks/answer_depths.py CASE BASE [--every 3] [--queries 30]

CASE is a case's folder of `whence bench --base` or of benchmarks/real_models.py (train.jsonl, adapter, queries.jsonl);
BASE the base that its adapter was trained on (a fault with lessons has a base of its own, in OUT/bases). For dh, dm, h
and m at every layer, and for eh at the last, each row scores the cosine with the query (states less their mean over the
rows), times its learned fraction; printed is the average precision over the full ranking, mean over the queries.
Below it forms of several vectors with their 95% bootstrap intervals, after a second pass of weight 2: the default of
this version, the default before it, and what else was tried.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import numpy as np
import torch

from common import given_case
from whence.metrics import average_precision, bootstrap
from whence.model import learned_fraction
from whence.scoring.expansion import Expansion
from whence.scoring.forms import Read, ScoreForm, form_scores
from whence.scoring.representation import CosineMean
from whence.scoring.vectors import to_block
from whence.signatures import Extractor

STATES = ("dh", "dm", "h", "m")
FORMS: dict[str, tuple[tuple[float, str, float | str], ...]] = {
    "default: 4 dm(5/6) + h(last) + 5 eh": ((4, "dm", 5 / 6), (1, "h", "last"), (5, "eh", "last")),
    "before: dm(1/15) + h(last) + 2 eh": ((1, "dm", 1 / 15), (1, "h", "last"), (2, "eh", "last")),
    "dm(5/6) + eh": ((1, "dm", 5 / 6), (1, "eh", "last")),
    "m(9/10) + 1.5 eh": ((1, "m", 0.9), (1.5, "eh", "last")),
    "dh(5/6) + 2 eh + h(2/3)": ((1, "dh", 5 / 6), (2, "eh", "last"), (1, "h", 2 / 3)),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", type=Path)
    parser.add_argument("base")
    parser.add_argument("--every", type=int, default=3, help="read every so many layers, and those that the forms read")
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def form_of(name: str) -> ScoreForm:
    """The form of that name, with a second pass of weight 2."""
    parts = FORMS[name]
    reads = tuple(Read(vector, depth, centred=vector != "eh") for _, vector, depth in parts)
    function = CosineMean(reads, tuple(float(weight) for weight, *_ in parts))
    return ScoreForm(name, "trial", function, reads, by_learned_fraction=True, expand=Expansion(weight=2.0))


def main() -> None:
    args = arguments()
    loaded, encoder, rows, faulty, asked = given_case(args.case, args.base, args.max_length)
    queries = asked[: args.queries]
    n = loaded.n_layers
    shown = sorted({*range(args.every, n + 1, args.every), n})
    depths = {round(d * n) if isinstance(d, float) else n for parts in FORMS.values() for _, _, d in parts}
    places = [(layer, name) for layer in sorted({*shown, *depths}) for name in STATES] + [(n, "eh")]
    extractor = Extractor(loaded, vectors=places, contrast=True)
    of_rows = extractor.extract([encoder.encode(row)[0] for row in rows])
    of_queries = extractor.extract([query.encode(encoder) for query in queries])
    centres = {
        (layer, name): raw.double().mean(0)
        for layer, signatures in of_rows.layers.items()
        for name, raw in signatures.named().items()
    }
    query, train = (to_block(found.layers, centres) for found in (of_queries, of_rows))
    assert of_rows.log_likelihood_gain is not None
    gain = of_rows.log_likelihood_gain
    print(f"{args.case.name}: {len(rows)} rows, {faulty.sum()} faulty, {len(queries)} queries, {n} layers")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {loaded.dtype}\n")
    print("| layer | " + " | ".join(STATES) + " | eh |\n|" + "---|" * (len(STATES) + 2))
    for layer in shown:
        alone = [precision(single(query, train, layer, name), faulty, gain) for name in STATES]
        last = (
            f"{precision(query[n]['eh'].unit @ train[n]['eh'].unit.T, faulty, gain).mean():.3f}" if layer == n else ""
        )
        print(f"| {layer} | " + " | ".join(f"{found.mean():.3f}" for found in alone) + f" | {last} |")
    print("\n| form | average precision |\n|---|---|")
    for name in FORMS:
        form = form_of(name)
        layers = tuple(n if read.depth == "last" else round(float(read.depth) * n) for read in form.needs)
        scores = form_scores(form, query, train, layers, gain).double().numpy()
        print(f"| {name} | {bootstrap([average_precision(one, faulty) for one in scores], seed=args.seed)} |")


def single(query: dict, train: dict, layer: int, name: str) -> torch.Tensor:
    """Cosines of one centred vector, [n_query, n_train]."""
    key = name + " centred"
    return query[layer][key].unit @ train[layer][key].unit.T


def precision(scores: torch.Tensor, faulty: np.ndarray, gain: torch.Tensor) -> np.ndarray:
    """Average precision of each query's ranking by score times learned fraction, [n_query]."""
    weighed = (scores * learned_fraction(gain).to(scores.dtype)).double().numpy()
    return np.array([average_precision(one, faulty) for one in weighed])


if __name__ == "__main__":
    main()
