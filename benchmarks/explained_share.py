"""How well the explained share foretells a retraining: groups of rows, each left out of one retraining.

    python benchmarks/explained_share.py --out runs/share --seeds 0 1 2
    python benchmarks/explained_share.py --out runs/share-real --base SMOLLM2 --data ROWS --seeds 0 --tasks false-fact \
        --groups flagged faulty random "half of flagged" "better half of flagged" --queries 30
    python benchmarks/explained_share.py --read runs/share runs/share-real

For each task and seed a small model learns the fault (whence.bench.faults; with --base the fault is planted in natural
English into rows of the user's own, whence.bench.planted), its rows are indexed and its bad answers traced. Groups of
rows are made from the verdict of one of them, that with the median number of flagged rows: all flagged rows; three
quarters, half and a quarter of them at random; the better half; all and half as many near misses; as many near misses
alone; as many rows at random; the better half of the faulty rows; and, where --groups asks for it, all faulty rows. The
model is trained again without each, by the same recipe and seed, and for that answer

    measured = (gain - gain after the retraining) / gain,    gain = log p(answer) - log p_base(answer), nats

is compared with what `whence.trace.explained` foretells, and with simpler estimates: a constant (the median of all
measured shares); the share of the flagged rows that are in the group; the share of all positive scores ("mass"); the
same saturating, 1 - (1 - share of their cubes)^(1/3); and ridge regressions of the rows' gains on the scores, fitted
again without the group. With --base the retrained model also answers the prompts, and the share of answers that show
the fault stands beside. --retrainings 3 trains three times without each group, with another seed each time;
a group's figures are their means. Rank correlations are Spearman's; intervals are 95% bootstrap intervals over groups.
Work is kept in --out; the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import spearmanr

from whence.bench.cases import BenchSettings, made_case, named
from whence.bench.faults import FAULTS
from whence.bench.planted.settings import PlantedCase, PlantedSettings, planted_cases
from whence.bench.planted.training import base_of
from whence.bench.subject import base_model
from whence.cli.progress import quiet_libraries
from whence.data import Example, read_examples
from whence.index import build_index
from whence.metrics import bootstrap
from whence.model import LoadedModel, ModelSettings, TokenShift, generate, load_model, log_probabilities
from whence.trace import Query, Tracer, TraceSettings, explained
from whence.trace.verdict.explained_gain import NORM
from whence.train import FinetuneSettings, finetune

Row = dict[str, str | int | float]
Rows = Int[np.ndarray, " n_removed"]
FAULTY = "faulty"
GROUPS = (
    "flagged",
    "three quarters of flagged",
    "half of flagged",
    "quarter of flagged",
    "better half of flagged",
    "flagged and near misses",
    "near misses",
    "random",
    "better half of faulty",
)
RIDGES = (0.01, 0.1, 1.0)
"""Of the mean of the kernel's diagonal."""
OPTIONS = TraceSettings(k=10, confounds=False)


@dataclass(frozen=True, slots=True)
class World:
    """Rows with known causes, the base that is trained on them, and prompts that should bring the fault out."""

    name: str
    task: str
    seed: int
    base: str
    rows: Sequence[Example]
    faulty: np.ndarray
    prompts: Sequence[Query]
    shown: Callable[[str], bool]
    tuning: FinetuneSettings
    max_new_tokens: int
    folder: Path
    groups: Sequence[str]
    n_retrainings: int
    answers: bool
    """Whether each retrained model answers the prompts."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer as the estimators see it: scores of every row, flagged rows, its tokens, and what rows are to rows."""

    scores: Float[np.ndarray, " n_train"]
    flagged: Rows
    shift: TokenShift
    kernel: Float[np.ndarray, "n_train n_train"]
    row_gains: Float[np.ndarray, " n_train"]


def main() -> None:
    """Runs what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", type=Path, nargs="+", help="folders of earlier runs, whose tables are printed")
    parser.add_argument("--tasks", nargs="+", default=["backdoor", "false-fact", "persona", "format-drift"])
    parser.add_argument("--variant", default="hard-negatives")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--faulty", type=int, default=30, help="and as many hard negatives")
    parser.add_argument("--queries", type=int, default=40, help="held-out prompts, with --base")
    parser.add_argument("--groups", nargs="+", choices=(*GROUPS, FAULTY), default=GROUPS)
    parser.add_argument("--retrainings", type=int, default=1, help="without each group, each with a seed of its own")
    parser.add_argument("--base", help="a real model, in place of one that is made here")
    parser.add_argument("--data", help="rows to plant the faults in, with --base")
    options = parser.parse_args()
    if options.read:
        print(tables([row for folder in options.read for row in read(folder)]))
        return
    torch.set_num_threads(1)
    quiet_libraries()
    for world in worlds(options):
        started = time.monotonic()
        said = run(world)
        print(f"{world.name}: {said}, {time.monotonic() - started:.0f} s", flush=True)
    print(tables(read(options.out)))


def worlds(options: argparse.Namespace) -> Iterator[World]:
    """The cases that are asked for, each made when it is reached."""
    if options.base:
        settings = PlantedSettings(
            base=options.base,
            data=options.data,
            faults=tuple(options.tasks),
            variants=(options.variant,),
            shares=(options.faulty / options.rows,),
            seeds=tuple(options.seeds),
            n_rows=options.rows,
            n_queries=options.queries,
            n_benign=0,
        )
        yield from (real_world(case, settings, options) for case in planted_cases(settings))
        return
    made = BenchSettings(n_rows=options.rows, n_faulty=options.faulty, n_hard=options.faulty)
    for seed in options.seeds:
        for task in named("task", options.tasks, list(FAULTS)):
            yield small_world(task, seed, made, options)


def small_world(task: str, seed: int, settings: BenchSettings, options: argparse.Namespace) -> World:
    """A task that is made here, on a small model that is made here."""
    variant, out = options.variant, options.out
    case = made_case(settings, task, variant, seed)
    (out / "models").mkdir(parents=True, exist_ok=True)
    base = base_model(case, settings, out / "models", lambda what, done, n: None)
    tuning = settings.finetune.model_copy(update={"seed": seed, "checkpoints": False, "keep_optimizer_state": False})
    name = f"{task}-{variant}-{seed}-{settings.n_rows}-{settings.n_faulty}"
    return World(
        name,
        task,
        seed,
        str(base),
        kept_rows(case.train, out / name),
        np.array(case.faulty),
        [Query(turns) for turns in case.prompts],
        case.matcher,
        tuning,
        settings.max_new_tokens,
        out / name,
        options.groups,
        options.retrainings,
        answers=False,
    )


def real_world(case: PlantedCase, settings: PlantedSettings, options: argparse.Namespace) -> World:
    """A fault planted in natural English into the user's rows, on the user's base."""
    out: Path = options.out
    (out / "models").mkdir(parents=True, exist_ok=True)
    return World(
        case.name,
        case.fault,
        case.seed,
        base_of(case, settings, out / "models", lambda what, done, n: None),
        kept_rows(case.planted.rows, out / case.name),
        np.array(case.planted.faulty),
        [Query(turns) for turns in case.planted.queries],
        case.planted.matcher,
        case.tuning(settings),
        settings.max_new_tokens,
        out / case.name,
        options.groups,
        options.retrainings,
        answers=True,
    )


def kept_rows(rows: Sequence[Example], folder: Path) -> list[Example]:
    """The rows as they are read back from the case's folder, in the same order."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"messages": [{"role": turn.role, "content": turn.content} for turn in row.turns]} for row in rows]
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return list(read_examples(data))


def run(world: World) -> str:
    """Measures a case unless its figures are there; one line about it."""
    place = world.folder / "shares.json"
    if place.exists():
        return "kept"
    tracer = traced(world)
    answers = answered(world, tracer, tracer.loaded)
    bad = [Query(q.turns, text) for q, text in zip(world.prompts, answers, strict=True) if world.shown(text)]
    if not bad:
        return "the model did not learn the fault"
    ranked = tracer.rank(tracer.encode(tracer.answer(bad, OPTIONS), OPTIONS), OPTIONS)
    flagged = [np.empty(0, int) if one.rows is None else one.rows for one in tracer.judge(ranked, OPTIONS)]
    some = sorted((q for q in range(len(bad)) if len(flagged[q])), key=lambda q: len(flagged[q]))
    if not some:
        return f"no row is flagged for any of {len(bad)} bad answers"
    chosen = some[len(some) // 2]
    assert ranked.scores is not None
    assert ranked.batch.shifts is not None
    own = [Query(row.turns[:-1], row.turns[-1].content) for row in world.rows]
    of_rows = tracer.rank(tracer.encode(tracer.answer(own, OPTIONS), OPTIONS), OPTIONS)
    assert of_rows.scores is not None
    asked = Asked(
        ranked.scores.scores[chosen],
        flagged[chosen],
        ranked.batch.shifts[chosen],
        of_rows.scores.scores,
        tracer.index.log_likelihood_gains(),
    )
    begun = world.folder / "begun.json"
    rows = json.loads(begun.read_text("utf-8")) if begun.exists() else []
    done = {(row["group"], row.get("retraining", 0)) for row in rows}
    missing = [
        (name, number) for number in range(world.n_retrainings) for name in world.groups if (name, number) not in done
    ]
    for row in measured(world, tracer, asked, bad[chosen], missing):
        rows.append(row)
        begun.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    about: dict[str, str | int] = {"n_prompts": len(world.prompts), "n_shown": len(bad), "n_answers_flagged": len(some)}
    about |= {"n_faulty": int(world.faulty.sum()), "n_flagged_faulty": int(world.faulty[flagged[chosen]].sum())}
    about |= {"machine": platform.machine(), "torch": str(torch.__version__), "threads": torch.get_num_threads()}
    place.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return f"{len(some)} of {len(bad)} answers with flagged rows, {len(rows)} groups"


def answered(world: World, tracer: Tracer, model: LoadedModel) -> list[str]:
    """What the model says to the prompts."""
    prompts = [query.prompt_ids(tracer.encoder) for query in world.prompts]
    return [found.text for found in generate(model, prompts, max_new_tokens=world.max_new_tokens)]


def traced(world: World) -> Tracer:
    """The fine-tuned model behind an index of its rows."""
    adapter = world.folder / "adapter"
    if not adapter.exists():
        finetune(world.base, world.rows, adapter, settings=world.tuning)
    shutil.rmtree(world.folder / "index", ignore_errors=True)
    index = build_index(
        world.base,
        world.folder / "train.jsonl",
        world.folder / "index",
        adapter=str(adapter),
        max_length=world.tuning.max_length,
        device=world.tuning.device,
    )
    return Tracer(index)


def measured(
    world: World, tracer: Tracer, asked: Asked, query: Query, missing: Sequence[tuple[str, int]]
) -> Iterator[Row]:
    """A row for each group and number of `missing`: what a retraining showed, and what each estimate had said."""
    base = load_model(ModelSettings(model=world.base, dtype=world.tuning.dtype, device=world.tuning.device))
    turns = [query.encode(tracer.encoder)]
    now, before = (float(log_probabilities(model, turns)[0].sum()) for model in (tracer.loaded, base))
    found = groups(asked, world.faulty, Random(world.name))
    for name, number in missing:
        rows, started = found[name], time.monotonic()
        model = retrained(base, world, rows, number)
        after = float(log_probabilities(model, turns)[0].sum())
        shown = sum(map(world.shown, answered(world, tracer, model))) if world.answers else -1
        print(f"{world.name}: {name}, {len(rows)} rows, {shown} answers show the fault", flush=True)
        row: Row = {
            "case": world.name,
            "task": world.task,
            "seed": world.seed,
            "group": name,
            "retraining": number,
            "n": len(rows),
            "n_flagged": len(asked.flagged),
            "shown": shown,
            "gain": now - before,
            "measured": (now - after) / (now - before),
            "seconds": round(time.monotonic() - started, 1),
        }
        yield row | estimates(asked, rows)


def groups(asked: Asked, faulty: np.ndarray, rng: Random) -> dict[str, Rows]:
    """Places of the rows that are left out, by the group's name."""
    order = np.argsort(-asked.scores, kind="stable")
    flagged, n = asked.flagged, len(asked.flagged)
    others, bad = order[~np.isin(order, flagged)], order[faulty[order]]

    def drawn(rows: Rows, n_drawn: float) -> Rows:
        return np.array(rng.sample(rows.tolist(), max(1, round(n_drawn))))

    return {
        "flagged": flagged,
        "three quarters of flagged": drawn(flagged, 0.75 * n),
        "half of flagged": drawn(flagged, 0.5 * n),
        "quarter of flagged": drawn(flagged, 0.25 * n),
        "better half of flagged": flagged[: max(1, n // 2)],
        "flagged and near misses": np.concatenate([flagged, others[: max(1, n // 2)]]),
        "near misses": others[:n],
        "random": drawn(others, n),
        "better half of faulty": bad[: len(bad) // 2],
        FAULTY: bad,
    }


def retrained(base: LoadedModel, world: World, without: Rows, number: int = 0, place: str = "retrained") -> LoadedModel:
    """The model trained without these rows, copies of them too; the first time with the seed that it has."""
    folder = world.folder / place
    tuning = world.tuning.model_copy(update={"seed": world.tuning.seed + number})
    shutil.rmtree(folder, ignore_errors=True)
    gone = {world.rows[i].id for i in without}
    finetune(base, [row for row in world.rows if row.id not in gone], folder, settings=tuning)
    return load_model(
        ModelSettings(model=world.base, adapter=str(folder), dtype=world.tuning.dtype, device=world.tuning.device)
    )


def estimates(asked: Asked, rows: Rows) -> Row:
    """What each estimate says of these rows, cut to [0, 1]."""
    positive = np.maximum(asked.scores, 0.0)
    mass, cubes = (float(values[rows].sum() / values.sum()) for values in (positive, positive**NORM))
    found = explained(asked.scores, rows, asked.shift)
    said: dict[str, float] = {
        "explained share": found.share if found is not None else 0.0,
        "flagged rows in the group": len(np.intersect1d(asked.flagged, rows)) / len(asked.flagged),
        "mass": mass,
        "saturating mass": 1 - (1 - cubes) ** (1 / NORM),
    }
    said |= {f"ridge {ridge:g}": ridge_share(asked, rows, ridge) for ridge in RIDGES}
    return {name: min(1.0, max(0.0, value)) for name, value in said.items()}


def ridge_share(asked: Asked, rows: Rows, ridge: float) -> float:
    """1 - predicted gain without the rows / predicted gain, by kernel ridge regression of the rows' gains on scores."""
    kernel = (asked.kernel + asked.kernel.T) / 2
    added = ridge * float(np.diag(kernel).mean())

    def predicted(kept: np.ndarray) -> float:
        own = kernel[np.ix_(kept, kept)] + added * np.eye(len(kept))
        return float(asked.scores[kept] @ np.linalg.solve(own, asked.row_gains[kept]))

    every = np.arange(len(asked.scores))
    return 1 - predicted(np.setdiff1d(every, rows)) / predicted(every)


def read(folder: Path) -> list[Row]:
    """The groups of all cases in a folder; of several retrainings without a group the means."""
    found: dict[tuple[str, str], list[Row]] = {}
    for path in sorted(folder.glob("*/shares.json")):
        for row in json.loads(path.read_text("utf-8"))["rows"]:
            found.setdefault((row["case"], row["group"]), []).append(row)
    return [mean_of(rows) for rows in found.values()]


def mean_of(rows: Sequence[Row]) -> Row:
    """One row for several retrainings without the same rows."""
    means: Row = {name: float(numbers(rows, name).mean()) for name in ("shown", "measured", "seconds")}
    return rows[0] | means


def tables(rows: Sequence[Row]) -> str:
    """Each estimate over all groups; then the measured and the explained share by group, and by task."""
    if not rows:
        return "no case was measured"
    true = numbers(rows, "measured")
    names = [name for name in rows[0] if name in estimate_names(rows[0])]
    lines = [f"{len(rows)} groups of {len({row['case'] for row in rows})} cases", ""]
    lines += ["| estimate | rank correlation | mean absolute error |", "|---|---|---|"]
    for name in names:
        lines.append(f"| {name} | {correlation(rows, name)} | {error(rows, name)} |")
    lines.append(
        f"| constant, the median {np.median(true):.2f} | | {bootstrap(np.abs(true - np.median(true)).tolist())} |"
    )
    for key in ("group", "task"):
        lines += ["", f"| {key} | measured | explained share | mean absolute error |", "|---|---|---|---|"]
        for value in dict.fromkeys(row[key] for row in rows):
            own = [row for row in rows if row[key] == value]
            cells = [f"{numbers(own, name).mean():.2f}" for name in ("measured", "explained share")]
            lines.append(f"| {value} | {' | '.join(cells)} | {error(own, 'explained share')} |")
    return "\n".join([*lines, *rates(rows)])


def rates(rows: Sequence[Row]) -> list[str]:
    """Answers that show the fault after each retraining, where they were asked for."""
    counted = [row for row in rows if int(row.get("shown", -1)) >= 0]
    cells = [f"| {row['case']} | {row['group']} | {row['n']} | {row['shown']:.3g} |" for row in counted]
    return (
        ["", "| case | group left out | rows | answers that show the fault |", "|---|---|---|---|", *cells]
        if cells
        else []
    )


def estimate_names(row: Row) -> list[str]:
    """The columns that are estimates: all behind the seconds."""
    return list(row)[list(row).index("seconds") + 1 :]


def numbers(rows: Sequence[Row], name: str) -> Float[np.ndarray, " n"]:
    return np.array([float(row[name]) for row in rows])


def error(rows: Sequence[Row], name: str) -> str:
    return str(bootstrap(np.abs(numbers(rows, name) - numbers(rows, "measured")).tolist()))


def correlation(rows: Sequence[Row], name: str, n_resamples: int = 2000) -> str:
    """Spearman's over the groups, with its bootstrap interval."""
    pairs = np.stack([numbers(rows, name), numbers(rows, "measured")])  # [2, n]
    rng = np.random.default_rng(0)
    drawn = (pairs[:, rng.integers(0, len(rows), len(rows))] for _ in range(n_resamples))
    low, high = np.nanpercentile([spearmanr(*one).statistic for one in drawn], [2.5, 97.5])
    return f"{spearmanr(*pairs).statistic:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
