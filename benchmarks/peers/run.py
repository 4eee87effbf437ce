"""A peer's methods on a case of a finished bench: the same model, rows, queries and figures as whence's own methods.

    python benchmarks/peers/run.py --peer kronfluence --bench runs/bench --task backdoor --variant plain --seed 0 \
        --out peers.jsonl

Run it in the peer's own environment (README.md). One JSON line a method is appended to --out, in the bench's own
schema, with `same_as` beside: the rank correlation with the method of whence that computes the same thing, and that
method's average precision and seconds in the same process.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interface import Adapter, Answer, PeerCase
from scipy.stats import spearmanr

from whence.bench.cases import QUICK, BenchSettings, made_case
from whence.bench.costs import ChargedWork, measured
from whence.bench.rows import ResultRow, labels
from whence.bench.run import ASKED_FOR, MODELS, PACKAGES, RESULTS, SCHEMA, read_results
from whence.bench.subject import TrainedCase, train_case
from whence.errors import InputError, WhenceError
from whence.files import hash_of
from whence.methods.registry import make_method
from whence.metrics.figures import measure
from whence.metrics.retrieval import average_precision

PEERS = ("bergson", "dattri", "kronfluence")
Scores = np.ndarray


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, choices=PEERS)
    parser.add_argument("--bench", required=True, type=Path, help="folder that `whence bench -o` made")
    parser.add_argument("--task", required=True)
    parser.add_argument("--variant", default="plain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="the bench was run with --quick")
    parser.add_argument("--out", type=Path, default=Path("peers.jsonl"))
    return parser.parse_args()


def finished_row(args: argparse.Namespace, settings: BenchSettings) -> ResultRow:
    """A row of the bench on this very case. Raises InputError where there is none: nothing is trained here."""
    wanted = {name: value for name, value in settings.model_dump(mode="json").items() if name not in ASKED_FOR}
    rows = [
        row
        for row in read_results(args.bench / RESULTS)
        if (row["task"], row["variant"], row["seed"]) == (args.task, args.variant, args.seed)
    ]
    for row in rows:
        if row["settings"] == wanted and row.get("n_queries"):
            return row
    raise InputError(
        f"{args.bench / RESULTS} has {len(rows)} rows of {args.task}, {args.variant}, seed {args.seed}, "
        f"none of them with queries and with the settings of a {'quick' if args.quick else 'default'} bench.",
        "A peer runs on the model, rows and queries of a finished bench.",
        "Run whence bench on that case first; leave --quick as it was there.",
    )


def same_case(row: ResultRow, planted: TrainedCase) -> None:
    """Raises InputError unless model, rows and queries are those that the bench had."""
    there = {**row["hashes"], "n_queries": row["n_queries"]}  # type: ignore[dict-item]
    here = {**planted.hashes, "n_queries": 0 if planted.queries is None else len(planted.queries)}
    if there != here:
        raise InputError(
            f"This environment makes another case than the bench's: {here}, not {there}.",
            "Model, rows and queries must be the same ones.",
            "Install the versions of requirements-common.txt in both environments.",
        )


def best_turn(scores: Scores, planted: TrainedCase) -> Scores:
    """scores[q, row]: a row's best turn, as in the bench."""
    starts = np.unique(planted.row_of, return_index=True)[1]
    return np.maximum.reduceat(scores, starts, axis=1)


def checked(answer: Answer, planted: TrainedCase) -> Scores:
    """The peer's scores by row. Raises InputError for a wrong shape or a score that is not finite."""
    assert planted.queries is not None
    scores = answer.scores.detach().double().cpu().numpy()
    wanted = (len(planted.queries), len(planted.train))
    if scores.shape != wanted or not np.isfinite(scores).all():
        raise InputError(
            f"{answer.method} gave scores of shape {scores.shape}, {int((~np.isfinite(scores)).sum())} not finite.",
            f"Expected finite scores of shape [n_query, n_train] = {wanted}.",
        )
    return best_turn(scores, planted)


def figures(scores: Scores, planted: TrainedCase, settings: BenchSettings) -> ResultRow:
    """As in a row of the bench."""
    faulty, hard = labels(planted, len(scores), shuffle=False)
    by_query = [round(average_precision(*one), 6) for one in zip(scores, faulty, strict=True)]
    found = measure(scores, faulty, hard=hard, k=settings.k, seed=planted.case.seed)
    return {**found, "ap_by_query": by_query}  # type: ignore[dict-item]


def compared(
    answer: Answer, scores: Scores, planted: TrainedCase, settings: BenchSettings, work: ChargedWork
) -> ResultRow | None:
    """The counterpart in whence: its figures, and Spearman's rank correlation of the two rankings of every query."""
    if answer.same_as is None:
        return None
    assert planted.queries is not None
    work.charge()
    method = make_method(answer.same_as, planted.subject, **answer.same_options)
    with measured(work, planted.subject.loaded.device) as fitting:
        method.fit(planted.train)
    with measured(work, planted.subject.loaded.device) as asking:
        ours = method.score(planted.queries)
    mine = best_turn(ours.double().cpu().numpy(), planted)
    correlations = [float(spearmanr(a, b).statistic) for a, b in zip(scores, mine, strict=True)]
    return {
        "method": answer.same_as,
        "options": answer.same_options,
        "spearman": float(np.mean(correlations)),
        "spearman_min": float(np.min(correlations)),
        "ap": figures(mine, planted, settings)["ap"],
        "seconds_fit": round(fitting.seconds, 4),
        "seconds_score": round(asking.seconds, 4),
    }


def row_of(
    answer: Answer, peer: str, planted: TrainedCase, settings: BenchSettings, bench: ResultRow, work: ChargedWork
) -> ResultRow:
    """One line of the output."""
    scores = checked(answer, planted)
    packages = [*PACKAGES, peer]
    taken = ("task", "variant", "seed", "n_rows", "n_faulty", "n_hard", "n_asked", "n_queries", "hashes", "settings")
    row: ResultRow = {
        "schema": SCHEMA,
        "method": answer.method,
        "method_version": version(peer),
        "shuffled": False,
        "error": None,
        **{name: bench[name] for name in taken},
        "options": answer.options,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        **figures(scores, planted, settings),
        "seconds_fit": round(answer.seconds_fit, 4),
        "seconds_score": round(answer.seconds_score, 4),
        "bytes_per_row": None,
        "peak_bytes": None,
        "same_as": compared(answer, scores, planted, settings, work),
    }
    identity = ("method", "method_version", "task", "variant", "seed", "options", "settings")
    return {"id": hash_of([row[name] for name in identity]), **row}


def told(row: ResultRow) -> str:
    """A row in one line."""
    text = f"{row['method']:30} AP {row['ap']:.3f}  fit {row['seconds_fit']:7.2f} s  ask {row['seconds_score']:7.2f} s"
    same: Any = row["same_as"]
    if same is None:
        return text
    options = "".join(f" {name}={value}" for name, value in same["options"].items())
    return (
        f"{text}  | whence {same['method']}{options}: AP {same['ap']:.3f}, fit {same['seconds_fit']:.2f} s, "
        f"ask {same['seconds_score']:.2f} s; rank correlation {same['spearman']:.4f} (least {same['spearman_min']:.4f})"
    )


def quiet_libraries() -> None:
    """No bars and no advice to programmers between the lines of the result."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)


def run(args: argparse.Namespace) -> None:
    quiet_libraries()
    adapter: Adapter = import_module(f"{args.peer}_adapter").answers
    settings = QUICK if args.quick else BenchSettings()
    bench = finished_row(args, settings)
    torch.set_num_threads(settings.threads or 1)
    case = made_case(settings, args.task, args.variant, args.seed)
    work = ChargedWork(settings.shared_bytes)
    planted = train_case(case, settings, args.bench / MODELS, work, lambda what, done, total: None)
    same_case(bench, planted)
    assert planted.queries is not None
    given = PeerCase(planted.subject, planted.train, planted.queries)
    print(
        f"{case.name}: {len(planted.train)} rows, {sum(case.faulty)} faulty, {bench['n_queries']} queries; "
        f"{args.peer} {version(args.peer)}, torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for answer in adapter(given, Path(folder), ()):
            row = row_of(answer, args.peer, planted, settings, bench, work)
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            print(told(row), flush=True)


def main() -> None:
    try:
        run(arguments())
    except WhenceError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
