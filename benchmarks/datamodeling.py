"""Do scores foretell what training without some rows does? Linear datamodeling score and leave-some-out correlation.

    python benchmarks/datamodeling.py -o runs/datamodeling [--seeds 0 1 2] [--subsets 30] [--groups 12]

At the size of `whence bench --quick`, where a retraining takes seconds. For each task and seed the case's fine-tune is
repeated with the same settings and seed

1. on --subsets random halves of the rows. LDS: Spearman's rank correlation over the halves between the sum of a query's
   scores over the half and the loss of the query's bad answer there, negated; mean over queries.
2. without each of --groups groups of a tenth of the rows, cut from the row order of the mean score of `bm25-full`, so
   that rows alike are left out together. Leave-some-out correlation: the same between the sum of scores over the group
   and the rise of the bad answer's loss.

Means over queries and seeds with 95% bootstrap intervals over queries. Retrainings are kept in OUT, as losses.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from whence.bench.cases import QUICK, BenchSettings, made_case
from whence.bench.subject import TrainedCase, base_model, train_case
from whence.cli.progress import quiet_libraries
from whence.confirmation.losses import turn_losses
from whence.data.examples import EncodedTurn
from whence.errors import InputError
from whence.files import hash_of
from whence.methods.base import SharedWork
from whence.methods.registry import make_method
from whence.metrics.retrieval import bootstrap, linear_datamodeling_score
from whence.model.loading import ModelSettings, load_model
from whence.train.finetuning import finetune

METHODS = (
    "rept-contrast", "rept-centred", "rept", "repsim", "g-cosine", "rept-balanced", "tracincp", "tracin", "tracin-ln",
    "gradient-cosine", "less", "datainf", "ekfac", "lissa", "bm25-full", "gradient-norm", "length", "random-scores",
)  # fmt: skip
LEFT_OUT = 0.1
Figures = dict[str, list[float]]


def main() -> None:
    """Retrains what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(QUICK.tasks))
    parser.add_argument("--variant", default="hard-negatives")
    parser.add_argument("--subsets", type=int, default=30)
    parser.add_argument("--groups", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    quiet_libraries()
    lds: Figures = defaultdict(list)
    left: Figures = defaultdict(list)
    for seed in args.seeds:
        for task in args.tasks:
            settings = QUICK.model_copy(update={"seeds": (seed,)})
            case = made_case(settings, task, args.variant, seed)
            planted = train_case(case, settings, args.out / "models", SharedWork(), lambda *_: None)
            if planted.queries is None:
                print(f"{task}, seed {seed}: not learned", flush=True)
                continue
            measure(planted, settings, args, lds, left)
            print(f"{task}, seed {seed}: {len(planted.queries)} queries", flush=True)
    about = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1} | vars(args) | {"lds": lds}
    text = json.dumps(about | {"leave_some_out": left}, indent=1, default=str)
    (args.out / "datamodeling.json").write_text(text + "\n", encoding="utf-8")
    print(f"\n{platform.machine()}, one thread, torch {torch.__version__}, seeds {args.seeds}, {args.variant}\n")
    print("| method | linear datamodeling score | leave-some-out correlation |\n|---|---|---|")
    for name in sorted(lds, key=lambda name: -float(np.mean(lds[name]))):
        print(f"| `{name}` | {bootstrap(lds[name])} | {bootstrap(left[name]) if left[name] else ''} |")


def measure(
    planted: TrainedCase, settings: BenchSettings, args: argparse.Namespace, lds: Figures, left: Figures
) -> None:
    """Adds each query's two correlations for every method."""
    assert planted.queries is not None
    n_rows = len(planted.case.train)
    scores = {name: row_scores(planted, settings, name) for name in METHODS}
    rng = np.random.default_rng(planted.case.seed)
    halves = [np.sort(rng.permutation(n_rows)[: n_rows // 2]) for _ in range(args.subsets)]
    alike = np.argsort(-scores["bm25-full"].mean(0), kind="stable")
    size = round(LEFT_OUT * n_rows)
    starts = np.linspace(0, n_rows - size, args.groups).astype(int)
    groups = [alike[start : start + size] for start in starts]
    after_half = np.array([losses(planted, settings, half, args.out) for half in halves])
    without = [losses(planted, settings, np.setdiff1d(np.arange(n_rows), group), args.out) for group in groups]
    whole = turn_losses(planted.subject.loaded, list(planted.queries.turns)).numpy()
    for name, score in scores.items():
        for query in range(len(planted.queries)):
            predicted = [score[query, half].sum() for half in halves]
            lds[name] += correlation(predicted, -after_half[:, query])
            removed = [score[query, group].sum() for group in groups]
            left[name] += correlation(removed, np.array(without)[:, query] - whole[query])


def correlation(predicted: Sequence[float], measured: np.ndarray) -> list[float]:
    """The rank correlation, as a list of one; 0 for a method that foretells the same of all."""
    try:
        return [linear_datamodeling_score(predicted, measured)]
    except InputError:
        return [0.0]


def row_scores(planted: TrainedCase, settings: BenchSettings, name: str) -> np.ndarray:
    """[n_query, n_rows]; a row by its best turn."""
    assert planted.queries is not None
    method = make_method(name, planted.subject, **settings.method_options.get(name, {}))
    method.fit(planted.train)
    starts = np.unique(planted.row_of, return_index=True)[1]
    return np.maximum.reduceat(method.score(planted.queries).double().numpy(), starts, axis=1)


def losses(planted: TrainedCase, settings: BenchSettings, rows: np.ndarray, out: Path) -> list[float]:
    """Loss of each query's bad answer, nats per token, after a fine-tune on these rows alone; made once."""
    assert planted.queries is not None
    case, turns = planted.case, list(planted.queries.turns)
    tuning = settings.finetune.model_copy(
        update={"seed": case.seed, "checkpoints": False, "keep_optimizer_state": False}
    )
    kept = out / "losses" / f"{case.name}-{hash_of([case.hash, tuning.model_dump(mode='json'), rows.tolist()])}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        base = base_model(case, settings, out / "models", lambda *_: None)
        run = kept.with_suffix(".model")
        shutil.rmtree(run, ignore_errors=True)
        finetune(base, [case.train[row] for row in rows], run, settings=tuning)
        kept.write_text(json.dumps(loss_under(base, run, tuning.dtype, turns)), encoding="utf-8")
        shutil.rmtree(run)
    return list(json.loads(kept.read_text("utf-8")))


def loss_under(base: Path, adapter: Path, dtype: str, turns: Sequence[EncodedTurn]) -> list[float]:
    """Loss of each turn, nats per token."""
    loaded = load_model(ModelSettings(model=str(base), adapter=str(adapter), dtype=dtype, device="cpu"))
    return turn_losses(loaded, turns).tolist()


if __name__ == "__main__":
    main()
