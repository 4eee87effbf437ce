"""A peer's methods on a real model: a case of benchmarks/real_models.py, with the default's own figures beside them.

    python benchmarks/peers/real.py --peer kronfluence --methods ekfac --case runs/real-models/cases/NAME --out FILE
    python benchmarks/peers/real.py --read --out FILE

CASE is a case's folder: its adapter, its rows and the answers that show the fault. Run it in the peer's own environment
(README.md). One JSON line a method is appended to --out, with the default's average precision of the same queries from
the case's result, and the mean difference. `--peer whence` builds the default's index of the same rows again and ranks
with it: what whence costs in the same conditions. --read prints the table of what is in --out.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interface import Answer, PeerCase, timed
from run import quiet_libraries
from torch import Tensor

from whence.bench.planted.answers import QUERIES, HeldOut
from whence.bench.planted.run import RESULT, TRAIN
from whence.bench.planted.training import ADAPTER, encoder_of, load
from whence.data import read_examples
from whence.index import Index, build_index, default_form, default_layers, score_matrix
from whence.methods import Subject, TurnSet
from whence.metrics import average_precision, bootstrap, measure
from whence.run_file import read_run_file
from whence.trace import Tracer
from whence.train import FinetuneSettings

HARD = "hard_negative"
K = 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=("bergson", "kronfluence", "whence"))
    parser.add_argument("--methods", nargs="*", default=[], help="of the adapter's; none given: all")
    parser.add_argument("--case", type=Path, help="folder of a case that benchmarks/real_models.py made")
    parser.add_argument("--read", action="store_true", help="print the table of --out, and run nothing")
    parser.add_argument("--out", type=Path, default=Path("peers-real.jsonl"))
    args = parser.parse_args()
    if not args.read and not (args.peer and args.case):
        parser.error("--peer and --case, or --read")
    return args


class RealCase:
    """A case's model, rows and bad answers, read from its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.result = folder, json.loads((folder / RESULT).read_text("utf-8"))
        run = read_run_file(folder / ADAPTER)
        if run is None:
            raise SystemExit(f"{folder / ADAPTER} has no run.yaml: the peers run on cases with an adapter.")
        self.base, self.tuning = str(run.base), FinetuneSettings.model_validate(run.settings)
        self.rows = list(read_examples(folder / TRAIN))
        self.labels = np.array([row.metadata["label"] for row in self.rows])
        self.faulty = self.labels == self.result["fault"]
        answers = (HeldOut(**json.loads(line)) for line in (folder / QUERIES).open(encoding="utf-8"))
        self.queries = [one.query for one in answers if one.counts]
        self.default = next(one for one in self.result["methods"] if one["method"].endswith("(default)"))

    def for_peers(self) -> PeerCase:
        """As the adapters take it. Every row of these cases has one answer."""
        loaded = load(self.base, self.tuning, adapter=str(self.folder / ADAPTER))
        encoder = encoder_of(loaded, self.tuning)
        train = [encoder.encode(row) for row in self.rows]
        if any(len(turns) != 1 for turns in train):
            raise SystemExit(f"{self.folder.name} has rows of several answers, or of none: not for this script.")
        queries = [one.encode(encoder) for one in self.queries]
        subject = Subject(loaded, seed=self.result["seed"])
        return PeerCase(subject, TurnSet.of([turns[0] for turns in train]), TurnSet.of(queries))


def whence_answers(case: RealCase, folder: Path) -> Iterator[Answer]:
    """The default: its index built anew, and the full ranking of every query."""
    options: dict[str, Any] = {"max_length": case.tuning.max_length, "dtype": case.tuning.dtype}

    def fit() -> Index:
        adapter = str(case.folder / ADAPTER)
        return build_index(case.base, case.folder / TRAIN, folder / "index", adapter=adapter, **options)

    def ask(index: Index) -> Tensor:
        tracer, form = Tracer(index), default_form(index.manifest)
        encoded = [one.encode(tracer.encoder) for one in case.queries]
        roles = default_layers(form, index.manifest)
        found = score_matrix(index, tracer.signatures(encoded), method=form, roles=roles)
        scores = np.full((len(encoded), len(case.rows)), float(found.scores.min()) - 1)
        scores[:, found.rows] = found.scores
        return torch.from_numpy(scores)

    index, seconds_fit = timed(fit)
    scores, seconds_score = timed(lambda: ask(index))
    yield Answer(default_form(index.manifest).name, scores, seconds_fit, seconds_score, options)


def row_of(answer: Answer, peer: str, case: RealCase) -> dict[str, Any]:
    """One line of the output."""
    scores = answer.scores.detach().double().cpu().numpy()
    wanted = (len(case.queries), len(case.rows))
    if scores.shape != wanted or not np.isfinite(scores).all():
        raise SystemExit(f"{answer.method} gave scores of shape {scores.shape}; expected finite ones of {wanted}.")
    by_query = [average_precision(one, case.faulty) for one in scores]
    ours = case.default["ap_by_query"]
    ahead = bootstrap([mine - theirs for mine, theirs in zip(ours, by_query, strict=True)])
    return {
        "case": case.result["case"],
        "base": Path(case.base).name,
        "n_rows": len(case.rows),
        "n_faulty": int(case.faulty.sum()),
        "method": answer.method,
        "version": version(peer),
        "options": answer.options,
        **measure(scores, case.faulty, hard=case.labels == HARD, k=K, seed=case.result["seed"]),
        "ap_by_query": [round(one, 6) for one in by_query],
        "default_ap": case.default["ap"],
        "default_ahead": [round(one, 4) for one in (ahead.mean, ahead.low, ahead.high)],
        "seconds_fit": round(answer.seconds_fit, 1),
        "seconds_score": round(answer.seconds_score, 1),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
    }


def table(path: Path) -> str:
    """The lines of --out, in Markdown."""
    lines = [
        "| case | method | average precision | P@10 | the default ahead by | fit, s | ask, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for text in path.read_text("utf-8").splitlines():
        row = json.loads(text)
        mean, low, high = row["default_ahead"]
        lines.append(
            f"| {row['case']} | `{row['method']}` | {row['ap']:.3f} [{row['ap_low']:.3f}, {row['ap_high']:.3f}] | "
            f"{row['precision']:.2f} | {mean:.3f} [{low:.3f}, {high:.3f}] | {row['seconds_fit']:.0f} | "
            f"{row['seconds_score']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs one peer on one case, or prints the table."""
    args = arguments()
    if args.read:
        print(table(args.out))
        return
    quiet_libraries()
    case = RealCase(args.case)
    print(f"{case.result['case']}: {len(case.rows)} rows, {int(case.faulty.sum())} faulty, {len(case.queries)} queries")
    with tempfile.TemporaryDirectory() as folder:
        if args.peer == "whence":
            found = whence_answers(case, Path(folder))
        else:
            found = import_module(f"{args.peer}_adapter").answers(case.for_peers(), Path(folder), args.methods)
        for answer in found:
            row = row_of(answer, args.peer, case)
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            print(f"{row['method']}: AP {row['ap']:.3f}, fit {row['seconds_fit']} s, ask {row['seconds_score']} s")


if __name__ == "__main__":
    main()
