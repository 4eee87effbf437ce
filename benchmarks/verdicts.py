"""False alarms and power of every null model on planted faults.

    python benchmarks/verdicts.py --seeds 0,1,2 --variants plain --shares 0.001,0.01,0.05 --out plain.json
    python benchmarks/verdicts.py --seeds 0,1,2 --variants hard-negatives --shares 0.05 --out hard.json
    python benchmarks/verdicts.py --seeds 0,1,2 --variants no-cause --tasks backdoor,persona --out none.json
    python benchmarks/verdicts.py --read plain.json hard.json none.json

Per task and share of faulty rows a small model learns the fault (whence.bench.subject.train_case). Then, for
every score form, the default one by every null model and the others by the default one, without gains, with gains as
versions before rept-contrast 7 compared them ("before"), and with height times peak gain as they are compared now:

power:    queries whose answer shows the fault: share of the faulty rows that are flagged, share of flagged rows that
          are not faulty (0 where none is flagged), at the false discovery rate asked for. Together: of the rows that
          any query of a case flags, which is what `whence clean` and `whence confirm` take out, or several (`--votes`);
          intervals over cases.
alarms:   share of queries with a flagged row among queries without a faulty row: "benign", held-out prompts of the same
          grammar with the model's own answers; "no-cause", a fault that the base model had already; "shuffled", each
          row's score drawn at random from the references, and the gain of one: of references whose own row is neither
          faulty nor a hard negative, since the answers of the others have a cause; a row's own reference is left out.
Intervals are 95% bootstrap intervals over queries.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch

from whence.bench.cases import BenchSettings, Case, made_case
from whence.bench.faults import FAULTS
from whence.bench.faults.background import pairs
from whence.bench.subject import TrainedCase, train_case
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Turn
from whence.methods.base import SharedWork, TurnSet
from whence.methods.registry import method_class
from whence.metrics.retrieval import average_precision, bootstrap
from whence.model import LoadedModel, token_shifts
from whence.signatures.extract import Extractor
from whence.trace.query.batch import peak_gains, summed_gains
from whence.trace.query.queries import Query
from whence.trace.settings import N_REFERENCES
from whence.trace.verdict.calibration import Gains, PeakGains, calibrate, reference_flags
from whence.trace.verdict.null_models import DEFAULT_NULL_MODEL, NULL_MODELS
from whence.trace.verdict.reference_scores import ReferenceScores
from whence.trace.verdict.references import ReferenceQuery, answer_references, given_references, response_gains

FORMS = ("rept-contrast", "rept-centred", "repsim")
TASKS = ("backdoor", "false-fact", "persona", "format-drift", "memorised")
VOTES = (1, 2, 3)
GROUPS = ("benign", "no-cause", "shuffled", "fault")
Row = dict[str, str | int | float | bool | None]


def main() -> None:
    """Plants, calibrates and prints the tables."""
    args = _arguments()
    torch.set_num_threads(1)
    rows: list[Row] = []
    if args.read:
        for path in args.read:
            rows += json.loads(Path(path).read_text("utf-8"))["rows"]
        print_tables(rows, args.fdr)
        return
    for seed in args.seeds:
        for task in args.tasks:
            for variant, share in cases(args.variants, args.shares):
                started = time.perf_counter()
                done = list(measured(task, variant, seed, share, args))
                rows += done
                print(f"{task} {variant} {share} seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
                if args.out:
                    Path(args.out).write_text(json.dumps({"fdr": args.fdr, "rows": rows}, indent=1) + "\n", "utf-8")
    print_tables(rows, args.fdr)


def cases(variants: Sequence[str], shares: Sequence[float]) -> Iterator[tuple[str, float | None]]:
    """Variant and share of faulty rows; "no-cause" has none."""
    for variant in variants:
        yield from ((variant, share) for share in ([None] if variant == "no-cause" else shares))


def measured(task: str, variant: str, seed: int, share: float | None, args: argparse.Namespace) -> Iterator[Row]:
    """Every query of a case under every form and null model, one row each."""
    n_faulty = round(args.rows * (share or 0.05))
    settings = BenchSettings(seeds=(seed,), n_rows=args.rows, n_faulty=n_faulty, n_hard=args.hard)
    case = made_case(settings, task, variant, seed)
    planted = train_case(case, settings, Path(args.models), SharedWork(), lambda *_: None)
    groups = asked(case, planted, settings)
    loaded, faulty = planted.subject.loaded, np.array(case.faulty)[planted.row_of]
    with_fault_words = faulty | np.array(case.hard)[planted.row_of]
    encoder = Encoder(loaded.tokenizer, max_length=settings.finetune.max_length)
    extractor = Extractor(loaded, [planted.subject.rep_layer])
    rng = Random(f"references/{task}/{variant}/{seed}")
    numbers = sorted(rng.sample(range(len(case.train)), N_REFERENCES))
    drawn = [ReferenceQuery(Query(case.train[row].turns[:-1]), row) for row in numbers]
    answered = answer_references(drawn, loaded, encoder, extractor, answer_tokens=settings.max_new_tokens)
    own = np.searchsorted(planted.row_of, answered.rows)
    row_gains = response_gains(loaded, planted.train.turns)
    assert answered.gains is not None
    assert answered.peaks is not None
    assert row_gains is not None
    of_references = [answered.gains, answered.peaks]
    for form in args.forms:
        method = method_class(form)(planted.subject)
        method.fit(planted.train)
        references = ReferenceScores(method.score(TurnSet.of(answered.turns)).double().numpy(), own)
        for group, turns in groups.items():
            scores = method.score(TurnSet.of(turns)).double().numpy()
            yield from _judged(
                scores, both_gains(loaded, turns), references, of_references, row_gains, faulty, args.fdr,
                {"task": task, "variant": variant, "seed": seed, "share": share, "form": form, "group": group},
            )  # fmt: skip
        generator = np.random.default_rng(seed)
        null = np.flatnonzero(~with_fault_words[own])
        shuffled = np.take_along_axis(references.scores, _drawn(generator, null, own, (100, len(faulty))), axis=0)
        of_answers = [values[generator.choice(null, 100)] for values in of_references]
        yield from _judged(
            shuffled, of_answers, references, of_references, row_gains, faulty, args.fdr,
            {"task": task, "variant": variant, "seed": seed, "share": share, "form": form, "group": "shuffled"},
        )  # fmt: skip


def both_gains(loaded: LoadedModel, turns: Sequence[EncodedTurn]) -> list[np.ndarray]:
    """The gain and the peak gain of each answer, in nats."""
    shifts = token_shifts(loaded, turns)
    return [summed_gains(shifts), peak_gains(shifts)]


def _drawn(generator: np.random.Generator, null: np.ndarray, own: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A reference of `null` for each cell, never the one whose own row the column is."""
    picked = generator.choice(null, size)
    while (matched := own[picked] == np.arange(size[1])).any():
        picked[matched] = generator.choice(null, int(matched.sum()))
    return np.asarray(picked)


def asked(case: Case, planted: TrainedCase, settings: BenchSettings, n: int = 60) -> dict[str, Sequence[EncodedTurn]]:
    """The case's queries that show the fault, and benign ones: held-out prompts with the model's own answers."""
    loaded = planted.subject.loaded
    encoder = Encoder(loaded.tokenizer, max_length=settings.finetune.max_length)
    fault = FAULTS[case.task](Random(case.seed), n_faulty=1, n_hard=1, n_queries=1)
    known = {row.turns[0].content for row in (*case.train, *case.base)}
    drawn = pairs(4 * n, Random(f"benign/{case.task}/{case.variant}/{case.seed}"), skip=fault.contradicts)
    prompts = [prompt for prompt, _ in drawn if prompt not in known][:n]
    benign = answer_references(
        given_references([Query((Turn("user", prompt),)) for prompt in prompts]),
        loaded,
        encoder,
        Extractor(loaded, [planted.subject.rep_layer]),
        answer_tokens=settings.max_new_tokens,
    ).turns
    groups: dict[str, Sequence[EncodedTurn]] = {"benign": [turn for turn in benign if not case.matcher(turn.response)]}
    if planted.queries is not None:
        groups["no-cause" if case.variant == "no-cause" else "fault"] = list(planted.queries.turns)
    return groups


def _judged(
    scores: np.ndarray,
    of_answers: Sequence[np.ndarray],
    references: ReferenceScores,
    of_references: Sequence[np.ndarray],
    row_gains: np.ndarray,
    faulty: np.ndarray,
    fdr: float,
    where: Row,
) -> Iterator[Row]:
    reference_gains, reference_peaks = of_references
    # Every null model for the default form, the default one for the others.
    null_models = list(NULL_MODELS) if where["form"] == FORMS[0] else [DEFAULT_NULL_MODEL]
    flags = {
        null_model: reference_flags(references, Gains(0.0, reference_gains, row_gains), fdr=fdr, null_model=null_model)
        for null_model in null_models
    }
    for query, (row, gain, peak) in enumerate(zip(scores, *of_answers, strict=True)):
        for null_model in null_models:
            peaks = PeakGains(float(peak), reference_peaks)
            tests: dict[bool | str, Gains | None] = {
                True: Gains(float(gain), reference_gains, row_gains, peaks=peaks),
                "before": Gains(float(gain), reference_gains, row_gains, flags[null_model]),
                False: None,
            }
            for test, known in tests.items():
                found = calibrate(row, references, known, fdr=fdr, null_model=null_model)
                n_flagged, n_hit = len(found.flagged), int(faulty[found.flagged].sum())
                fault = where["group"] == "fault"
                yield where | {
                    "query": query,
                    "null_model": null_model,
                    "gains": test,
                    "flagged": n_flagged,
                    "power": n_hit / int(faulty.sum()) if fault else None,
                    "not_faulty": (n_flagged - n_hit) / max(1, n_flagged) if fault else None,
                    "ap": average_precision(row, faulty) if fault else None,
                    "hits": _listed(found.flagged[faulty[found.flagged]]) if fault else None,
                    "others": _listed(found.flagged[~faulty[found.flagged]]) if fault else None,
                    "n_faulty": int(faulty.sum()),
                }


def print_tables(rows: Sequence[Row], fdr: float) -> None:
    """Alarms by form and null model; power by task, variant and share with gains."""
    print(f"Share of queries with a flagged row, FDR {fdr:.0%}; means with 95% intervals over queries\n")
    print("| form | null model | gains | benign | no-cause | shuffled | fault: flagged | faulty found | not faulty |")
    print("|---|---|---|---|---|---|---|---|---|")
    for form, null_model, known in ((f, w, k) for f in FORMS for w in NULL_MODELS for k in (False, "before", True)):
        mine = [row for row in rows if (row["form"], row["null_model"], row["gains"]) == (form, null_model, known)]
        if not mine:
            continue
        cells = [_mean([float(int(r["flagged"] or 0) > 0) for r in mine if r["group"] == group]) for group in GROUPS]
        cells += [_mean([float(r[key] or 0) for r in mine if r["group"] == "fault"]) for key in ("power", "not_faulty")]
        print(
            f"| {form} | {null_model} | {'no' if known is False else 'now' if known is True else known} | "
            + " | ".join(cells)
            + " |"
        )
    by_share = [(share, [r for r in shown_rows(rows) if r["share"] == share]) for share in sorted(shares_of(rows))]
    print(f"\n{FORMS[0]}, {DEFAULT_NULL_MODEL}, with gains, by share of faulty rows (plain)\n")
    print("| share | AP | found | not faulty | queries |\n|---|---|---|---|---|")
    for share, mine in by_share:
        ap, power, wrong = (_mean([float(r[k] or 0) for r in mine]) for k in ("ap", "power", "not_faulty"))
        print(f"| {share:.1%} | {ap} | {power} | {wrong} | {len(mine)} |")
    print_joined(rows)
    print(
        "\nPower by task, with gains\n\n"
        "| task | variant | share | form | AP | null model | found | not faulty | queries |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    faults = [row for row in rows if row["group"] == "fault" and row["gains"] is True]
    shown = [r for r in faults if (r["form"], r["null_model"]) == (FORMS[0], DEFAULT_NULL_MODEL)]
    for key in dict.fromkeys((r["task"], r["variant"], r["share"], r["form"], r["null_model"]) for r in shown):
        mine = [r for r in faults if (r["task"], r["variant"], r["share"], r["form"], r["null_model"]) == key]
        ap, power, wrong = (_mean([float(r[k] or 0) for r in mine]) for k in ("ap", "power", "not_faulty"))
        names = [str(name) for name in key]
        print(f"| {' | '.join([*names[:4], ap, names[4], power, wrong])} | {len(mine)} |")


def print_joined(rows: Sequence[Row]) -> None:
    """Rows that the queries of a case flag together, faulty or not, by how many of them must flag a row."""
    wanted = ("fault", FORMS[0], DEFAULT_NULL_MODEL, True)
    by_case: dict[tuple[str, float], dict[tuple[str, int], list[Row]]] = {}
    for row in rows:
        if (row["group"], row["form"], row["null_model"], row["gains"]) == wanted and row.get("hits") is not None:
            cases = by_case.setdefault((str(row["variant"]), float(str(row["share"]))), {})
            cases.setdefault((str(row["task"]), int(str(row["seed"]))), []).append(row)
    print("\nThe rows that the queries of a case flag together, by votes (all queries, where there are fewer)\n")
    print("| variant | share | votes | found | not faulty | cases |\n|---|---|---|---|---|---|")
    for (variant, share), cases in sorted(by_case.items()):
        for votes in VOTES:
            found, wrong = [], []
            for mine in cases.values():
                hits, others = (_flagged_by(mine, key, min(votes, len(mine))) for key in ("hits", "others"))
                found.append(hits / int(str(mine[0]["n_faulty"])))
                wrong.append(others / max(1, hits + others))
            print(f"| {variant} | {share:.1%} | {votes} | {_mean(found)} | {_mean(wrong)} | {len(cases)} |")


def _flagged_by(queries: Sequence[Row], key: str, votes: int) -> int:
    """How many rows of that kind at least so many queries flag."""
    counts = Counter(row for one in queries for row in str(one[key]).split())
    return sum(count >= votes for count in counts.values())


def _listed(rows: np.ndarray) -> str:
    return " ".join(map(str, rows.tolist()))


def shown_rows(rows: Sequence[Row]) -> list[Row]:
    """Queries that show a plain fault, under the default form and null model, with gains."""
    wanted = ("fault", FORMS[0], DEFAULT_NULL_MODEL, True, "plain")
    return [r for r in rows if (r["group"], r["form"], r["null_model"], r["gains"], r["variant"]) == wanted]


def shares_of(rows: Sequence[Row]) -> set[float]:
    return {float(row["share"]) for row in shown_rows(rows) if row["share"] is not None}


def _mean(values: Sequence[float]) -> str:
    return str(bootstrap(list(values))) if values else "-"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=list(TASKS))
    parser.add_argument(
        "--variants", type=lambda text: text.split(","), default=["plain", "hard-negatives", "no-cause"]
    )
    parser.add_argument(
        "--shares", type=lambda text: [float(share) for share in text.split(",")], default=[0.001, 0.01, 0.02, 0.05]
    )
    parser.add_argument("--forms", type=lambda text: text.split(","), default=list(FORMS))
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--hard", type=int, default=60)
    parser.add_argument("--fdr", type=float, default=0.05)
    parser.add_argument(
        "--models", default="runs/verdicts", help="folder of the fine-tuned models, kept and used again"
    )
    parser.add_argument("--out", help="JSON of every query")
    parser.add_argument("--read", nargs="+", help="print the tables of these JSON files together, and run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
