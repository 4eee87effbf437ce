"""Confirmation on every planted task: removing the flagged rows against removing the faulty ones, beside controls.

    python benchmarks/confirmation.py --out runs/confirmation --seeds 0 1 2

For each task and seed: a small model learns the fault (whence.bench.faults), its rows are indexed and the bad answers
traced; then it is trained again without the flagged rows (of the trace's verdict where it has one, else as many first
rows as are faulty), without the faulty rows, and without as many rows at random, of BM25 and of RepSim. Beside
each arm stands what one unlearning step says of it without retraining. Work is kept in --out; the same command goes on.
Writes --out/confirmation.json and prints the tables.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch

from unlearn import N_RANDOM, STEP, one_step
from whence.bench.cases import QUICK, BenchSettings, Case, made_case, named
from whence.bench.faults import FAULTS
from whence.bench.subject import base_model
from whence.cli.progress import quiet_libraries
from whence.confirmation.arms import choose_arms
from whence.confirmation.result import ALL, FLAGGED, RANDOM, ArmResult, Confirmation, judged
from whence.confirmation.retrain import confirm
from whence.data.examples import Example
from whence.data.readers import read_examples
from whence.errors import InputError
from whence.files import hash_of
from whence.index.build import build_index
from whence.metrics.retrieval import bootstrap
from whence.model.generation import generate
from whence.results.selection import flagged_rows, top_rows
from whence.results.types import STATUS_CONFIRMED
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer
from whence.train.finetuning import finetune

N_HELD_OUT = 40
MIN_DROP = 0.5
FAULTY = "faulty"
"""The arm without the rows that really cause the fault."""
Row = dict[str, object]


def main() -> None:
    """Runs what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["all"])
    parser.add_argument("--variant", default="hard-negatives")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="small models and two tasks, for a first look")
    parser.add_argument("--votes", type=int, default=1, help="queries whose verdicts must flag a row")
    parser.add_argument("--retrainings", type=int, default=1, help="of each arm, averaged by prompt")
    parser.add_argument("--no-look", action="store_true", help="leave the one-step look out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quiet_libraries()
    settings = QUICK if options.quick else BenchSettings()
    names = settings.tasks if options.quick and options.tasks == ["all"] else options.tasks
    rows: list[Row] = []
    for seed in options.seeds:
        for task in named("task", names, list(FAULTS)):
            started = time.monotonic()
            try:
                rows += case_rows(task, options.variant, seed, settings, options)
            except InputError as error:
                rows.append({"task": task, "seed": seed, "error": str(error)})
            print(f"{task}, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
            write(rows, options)
    print(tables(rows))


def case_rows(task: str, variant: str, seed: int, settings: BenchSettings, options: argparse.Namespace) -> list[Row]:
    """A row for each arm of one case. Raises InputError where the model did not learn the fault."""
    case, held_out = with_held_out(settings, task, variant, seed)
    out: Path = options.out
    folder = out / "cases" / f"{case.name}-{hash_of([case.hash, settings.model_dump(mode='json')])}"
    tracer, base = traced_model(case, settings, folder, out / "models")
    rows = list(read_examples(folder / "train.jsonl"))
    faulty = [row.id for row, marked in zip(case.train, case.faulty, strict=True) if marked]
    queries = [Query(turns) for turns in case.prompts]
    answers = answer(tracer, queries, settings.max_new_tokens)
    bad = [Query(q.turns, text) for q, text in zip(queries, answers, strict=True) if case.matcher(text)]
    if not bad:
        raise InputError(f"None of {len(answers)} answers shows the fault.", "The model must have learned it.")
    by = chosen_by(tracer, bad, len(faulty), min(options.votes, len(bad)))

    def retrained(removed: Sequence[str], controls: Sequence[str]) -> Confirmation:
        return confirm(
            tracer,
            queries,
            folder / "confirmation",
            match=case.matcher.pattern,
            removed=removed,
            base=base,
            held_out=held_out,
            controls=controls,
            seeds=options.retrainings,
            min_drop=MIN_DROP,
            max_new_tokens=settings.max_new_tokens,
        )

    found, truth = retrained(by[1], ("bm25", "repsim")), retrained(faulty, ())
    arms = [*found.arms, truth.arm(FLAGGED)]
    names = [arm.name for arm in found.arms] + [FAULTY]
    rates = {name: arm.rate.mean for name, arm in zip(names, arms, strict=True)}
    looks = {} if options.no_look else one_steps(tracer, rows, bad, found, faulty)
    about: Row = {"task": task, "variant": variant, "seed": seed, "chosen_by": by[0], "n_faulty": len(faulty)}
    about |= {"n_right": len(set(by[1]) & set(faulty)), "n_flagged": len(by[1])}
    return [
        about
        | {"arm": name, "n_removed": arm.n_removed, "rate": arm.rate.mean, "low": arm.rate.low, "high": arm.rate.high}
        | {"n": arm.rate.n, "held_out_loss": arm.held_out_loss}
        | {"share_of_faulty_drop": share_of_drop(rates, name), "confirmed": confirmed(arm, found)}
        | looks.get(name, {})
        for name, arm in zip(names, arms, strict=True)
    ]


def with_held_out(settings: BenchSettings, task: str, variant: str, seed: int) -> tuple[Case, list[Example]]:
    """The case without its last clean rows, and these."""
    case = made_case(settings.model_copy(update={"n_rows": settings.n_rows + N_HELD_OUT}), task, variant, seed)
    clean = [i for i in range(len(case.train)) if not case.faulty[i] and not case.hard[i]]
    held = set(clean[-N_HELD_OUT:])
    kept = [i for i in range(len(case.train)) if i not in held]

    def of(values: Sequence[object]) -> tuple[object, ...]:
        return tuple(values[i] for i in kept)

    smaller = Case(
        case.task,
        case.variant,
        case.seed,
        train=of(case.train),  # type: ignore[arg-type]
        faulty=of(case.faulty),  # type: ignore[arg-type]
        hard=of(case.hard),  # type: ignore[arg-type]
        prompts=case.prompts,
        matcher=case.matcher,
        base=case.base,
    )
    return smaller, [case.train[i] for i in sorted(held)]


def traced_model(case: Case, settings: BenchSettings, folder: Path, models: Path) -> tuple[Tracer, Path]:
    """The fine-tuned model behind an index of its rows, and its base; made where they are not there yet."""
    models.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    base = base_model(case, settings, models, lambda what, done, n: None)
    data, adapter = folder / "train.jsonl", folder / "adapter"
    if not data.exists():
        lines = [{"prompt": row.turns[0].content, "response": row.turns[1].content} for row in case.train]
        data.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    tuning = settings.finetune.model_copy(
        update={"seed": case.seed, "checkpoints": False, "keep_optimizer_state": False}
    )
    if not adapter.exists():
        finetune(base, list(read_examples(data)), adapter, settings=tuning)
    index = build_index(base, data, folder / "index", adapter=str(adapter), max_length=tuning.max_length, device="cpu")
    return Tracer(index), base


def answer(tracer: Tracer, queries: Sequence[Query], max_new_tokens: int) -> list[str]:
    """The traced model's greedy answers."""
    prompts = [tracer.encoder.render_prompt(query.turns) for query in queries]
    return [found.text for found in generate(tracer.loaded, prompts, max_new_tokens=max_new_tokens)]


def chosen_by(tracer: Tracer, bad: Sequence[Query], n_faulty: int, votes: int) -> tuple[str, tuple[str, ...]]:
    """What chose rows, and their ids: so many verdicts, or the first rows where the trace has none."""
    result = tracer.trace_many(bad, k=10 * n_faulty)
    if any(query.verdict is not None for query in result):
        return "verdict", flagged_rows(result, votes).ids
    return f"first {n_faulty}", top_rows(result, n_faulty).ids


def share_of_drop(rates: dict[str, float], name: str) -> float | None:
    """Fall of the rate as a share of what removing the faulty rows does; None where that does nothing."""
    whole = rates[ALL] - rates[FAULTY]
    return (rates[ALL] - rates[name]) / whole if whole > 0 else None


def confirmed(arm: ArmResult, found: Confirmation) -> bool:
    """Whether the rule confirms the arm's rows, against the same random control."""
    if arm.name == ALL:
        return False
    arms = [found.arm(ALL), replace(arm, name=FLAGGED), found.arm(RANDOM)]
    return judged(arms, MIN_DROP)[0] == STATUS_CONFIRMED


def one_steps(
    tracer: Tracer, rows: Sequence[Example], bad: Sequence[Query], found: Confirmation, faulty: Sequence[str]
) -> dict[str, Row]:
    """arm -> what the one-step look says of the rows that it was trained without."""
    turns = [tracer.encoder.encode(row)[0] for row in rows]
    asked = [tracer.encoder.encode_query(query.turns, query.response or "") for query in bad]
    ids = [row.id for row in rows]
    sets = {FLAGGED: found.removed, FAULTY: tuple(faulty)}
    sets |= {RANDOM: tuple(choose_arms(rows, found.removed, {})[2].removed)}
    looks: dict[str, Row] = {}
    for name, removed in sets.items():
        gone = set(removed)
        seen = one_step(tracer.loaded, turns, [i for i, id in enumerate(ids) if id in gone], asked)
        looks[name] = {"look": seen.agrees, "look_increase": seen.increase, "look_z": seen.z, "look_rank": seen.rank}
    return looks


def write(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """All rows with what they were made on."""
    about = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1}
    about |= {"retrainings": options.retrainings, "votes": options.votes}
    about |= {"quick": options.quick, "variant": options.variant, "step": STEP, "n_random": N_RANDOM}
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"about": about, "rows": rows}, ensure_ascii=False, indent=1)
    (options.out / "confirmation.json").write_text(text + "\n", encoding="utf-8")


def tables(rows: Sequence[Row]) -> str:
    """Rates by task and arm, mean over seeds; and the claims, with bootstrap intervals over cases."""
    arms = [ALL, FAULTY, FLAGGED, RANDOM, "bm25", "repsim"]
    lines = ["| task | " + " | ".join(arms) + " |", "|---" * (len(arms) + 1) + "|"]
    done = [row for row in rows if "error" not in row]
    for task in dict.fromkeys(row["task"] for row in done):
        cells = [mean(row["rate"] for row in done if (row["task"], row["arm"]) == (task, arm)) for arm in arms]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    lines.append("")
    for arm in (FLAGGED, RANDOM, "bm25", "repsim"):
        lines.append(f"fall of the rate, as a share of the fall without the faulty rows, {arm}: {interval(done, arm)}")
        own = [row for row in done if row["arm"] == arm]
        lines.append(
            f"the rule of `whence confirm` confirms {sum(bool(row['confirmed']) for row in own)} of {len(own)}"
        )
    wrong = [1 - int(str(row["n_right"])) / int(str(row["n_flagged"])) for row in done if row["arm"] == FLAGGED]
    lines.append(f"flagged rows that are not faulty: {bootstrap(wrong)}")
    looked = [row for row in done if "look" in row]
    if looked:
        right = [float(row["look"] == row["confirmed"]) for row in looked]
        lines.append(f"one-step look agrees with the retraining: {bootstrap(right)} of {len(right)} arms")
    lines += [f"left out: {row['task']}, seed {row['seed']}: {row['error']}" for row in rows if "error" in row]
    return "\n".join(lines)


def interval(rows: Iterable[Row], arm: str) -> str:
    """Mean over cases with its bootstrap interval."""
    shares = [
        float(str(row["share_of_faulty_drop"]))
        for row in rows
        if row["arm"] == arm and row["share_of_faulty_drop"] is not None
    ]
    return str(bootstrap(shares)) if shares else "no case"


def mean(values: Iterable[object]) -> str:
    found = [float(str(value)) for value in values]
    return f"{fmean(found):.0%}" if found else ""


if __name__ == "__main__":
    main()
