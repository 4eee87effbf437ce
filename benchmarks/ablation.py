"""Is the default at least as good as the best other method everywhere, and does each of its parts earn its place?

    whence bench --seeds 3 -o runs/bench
    python benchmarks/ablation.py --bench runs/bench [--seeds 0 1 2] [--out ablation.json] [--only-table]

1. From the bench's results.jsonl: on each task and variant the default beside the best other method there, with the
   paired difference of average precision (same queries); and the mean over tasks beside every other method's.
2. On the bench's models (made again where they are not there): the default without one of its parts, with one alone,
   and with a part replaced by what it was made from.

Every difference has a 95% interval: queries are drawn again within each case (task, variant, seed), a case's mean over
its queries, then the mean over cases.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from whence.bench.cases import BenchSettings, made_case, named
from whence.bench.faults import FAULTS
from whence.bench.subject import train_case
from whence.methods.base import SharedWork, TurnSet
from whence.metrics.retrieval import average_precision
from whence.model.spellings import SameWords
from whence.scoring.defaults import DEFAULT_METHOD, SCORES
from whence.scoring.expansion import Expansion
from whence.scoring.forms import Depths, Read, ScoreForm, form_scores
from whence.scoring.representation import CosineMean
from whence.scoring.vectors import Vectors, to_block, to_vectors
from whence.signatures.extract import Extractor

N_RESAMPLES = 2000
Cases = dict[tuple[str, str, int], list[float]]
"""Average precision of each query, by (task, variant, seed)."""

FULL = ("dm", "eh", "eh", "hb")
WHOLE = "dm, 2 eh, h: rept-contrast"
VARIATIONS: dict[str, tuple[str, ...]] = {
    WHOLE: FULL,
    "without dm": ("eh", "eh", "hb"),
    "without eh": ("dm", "hb"),
    "without h": ("dm", "eh", "eh"),
    "dm twice": ("dm", *FULL),
    "errors of tokens, not of words": ("dm", "et", "et", "hb"),
    "g of the first token for eh": ("dm", "g", "g", "hb"),
    "m for dm": ("m", "eh", "eh", "hb"),
    "with m": (*FULL, "m"),
    "h of the rule's layer": ("dm", "eh", "eh", "h"),
    "dm alone": ("dm",),
    "eh alone": ("eh",),
    "h alone": ("hb",),
    "m alone": ("m",),
}
DEEP = ("eh", "et", "g")
"""Read at the last layer and not centred; et is eh with each token by itself; hb is h at the last layer, centred."""


def main() -> None:
    """Prints both tables."""
    args = _arguments()
    torch.set_num_threads(1)
    print(
        f"{platform.machine()}, one thread, torch {torch.__version__}, seeds {args.seeds}, variants {args.variants}\n"
    )
    print_comparison(read_results(args.bench / "results.jsonl", args.seeds, args.variants), args.variants)
    if args.only_table:
        return
    found: dict[str, Cases] = defaultdict(dict)
    for seed in args.seeds:
        for task in named("task", args.tasks, list(FAULTS)):
            for variant in args.variants:
                for name, figures in ablated(task, variant, seed, args.bench / "models").items():
                    found[name][task, variant, seed] = figures
    print_ablation(found, args.variants)
    if args.out:
        rows = [
            {"form": name, "task": task, "variant": variant, "seed": seed, "ap": figures}
            for name, cases in found.items()
            for (task, variant, seed), figures in cases.items()
        ]
        args.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def read_results(path: Path, seeds: Sequence[int], variants: Sequence[str]) -> dict[str, Cases]:
    """Average precision of each query, by method and case, from a bench's results."""
    found: dict[str, Cases] = defaultdict(dict)
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        asked = row["seed"] in seeds and row["variant"] in variants and not row["shuffled"]
        if asked and row.get("ap_by_query"):
            found[row["method"]][row["task"], row["variant"], row["seed"]] = row["ap_by_query"]
    return found


def print_comparison(found: Mapping[str, Cases], variants: Sequence[str]) -> None:
    """The default beside the best other method, task by task, and its mean beside every method's."""
    ours = found[DEFAULT_METHOD]
    print(f"| task | variant | {DEFAULT_METHOD} | best other | its AP | difference |\n|---|---|---:|---|---:|---|")
    for variant in variants:
        for task in dict.fromkeys(task for task, at, _ in ours if at == variant):
            keys = [key for key in ours if key[:2] == (task, variant)]
            whole = {name: cases for name, cases in found.items() if name != DEFAULT_METHOD and set(keys) <= set(cases)}
            others = {name: _mean(cases, keys) for name, cases in whole.items()}
            best = max(others, key=lambda name: others[name])
            difference = stratified([_paired(ours, found[best], key) for key in keys])
            print(f"| {task} | {variant} | {_mean(ours, keys):.3f} | {best} | {others[best]:.3f} | {difference} |")
    print(f"\n| mean over tasks | {' | '.join(f'{v} | {DEFAULT_METHOD} is ahead by' for v in variants)} |")
    print("|---" * (1 + 2 * len(variants)) + "|")
    keys_of = {variant: [key for key in ours if key[1] == variant] for variant in variants}
    whole = {name: _mean(cases, list(ours)) for name, cases in found.items() if set(ours) <= set(cases)}
    for name in sorted(whole, key=lambda name: -whole[name]):
        cells = []
        for keys in keys_of.values():
            ahead = stratified([_paired(ours, found[name], key) for key in keys])
            cells += [f"{_mean(found[name], keys):.3f}", "" if name == DEFAULT_METHOD else ahead]
        print(f"| `{name}` | {' | '.join(cells)} |")


def ablated(task: str, variant: str, seed: int, models: Path) -> dict[str, list[float]]:
    """Average precision of each query of a case, for every variation, with and without the second pass."""
    settings = BenchSettings(seeds=(seed,))
    planted = train_case(made_case(settings, task, variant, seed), settings, models, SharedWork(), lambda *_: None)
    if planted.queries is None:
        return {}
    started = time.perf_counter()
    loaded = planted.subject.loaded
    depths = Depths(planted.subject.rep_layer, loaded.n_layers)
    extractor = Extractor(loaded, list(depths), max_tokens=settings.max_tokens, contrast=True)
    last = [(loaded.n_layers, "eh")]
    by_token = Extractor(loaded, vectors=last, max_tokens=settings.max_tokens, contrast=True)
    none = torch.empty(0, dtype=torch.long)
    by_token._head = replace(by_token._head, words=SameWords(none, none, none))
    train, gain = _block(extractor, by_token, planted.train, None)
    query, _ = _block(extractor, by_token, planted.queries, train)
    relevant = np.array(planted.case.faulty)[planted.row_of]
    default = SCORES[DEFAULT_METHOD]
    assert default.expand is not None
    forms = {name: _form(names, default.expand) for name, names in VARIATIONS.items()}
    forms |= {f"{name}, one pass": replace(form, expand=None) for name, form in forms.items()}
    forms["second pass at weight 2"] = _form(FULL, replace(default.expand, weight=2.0))
    forms["not centred"] = _form(FULL, default.expand, centred=False)
    forms |= {
        f"{name}, untaught rows too": replace(forms[name], by_learned_fraction=False) for name in (WHOLE, "m for dm")
    }
    found = {
        name: [
            average_precision(row, relevant)
            for row in form_scores(form, query[0], train[0], form.layers(depths), gain).numpy()
        ]
        for name, form in forms.items()
    }
    print(f"  {task} {variant} {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    return found


Sides = tuple[dict[int, dict[str, Vectors]], dict[tuple[int, str], torch.Tensor]]
"""A block, and the means of its vectors."""


def _block(
    extractor: Extractor, by_token: Extractor, rows: TurnSet, of: Sides | None
) -> tuple[Sides, torch.Tensor | None]:
    """The vectors of a side, centred by the means of the training side; and its log-likelihood gains."""
    found = extractor.extract(rows.turns, labels=rows.name)
    ((last, one),) = by_token.extract(rows.turns, labels=rows.name).layers.items()
    assert one.eh is not None
    means = (
        of[1]
        if of
        else {
            (layer, name): raw.double().mean(0)
            for layer, one in found.layers.items()
            for name, raw in one.named().items()
        }
    )
    block = to_block(found.layers, means)
    block[last]["et"] = to_vectors(one.eh)
    return (block, means), found.log_likelihood_gain


def _form(names: Sequence[str], expand: Expansion, *, centred: bool = True) -> ScoreForm:
    reads = tuple(
        Read(name, "last")
        if name in DEEP
        else Read(name.removesuffix("b"), "last" if name == "hb" else "rule", centred=centred)
        for name in names
    )
    mean = CosineMean(reads, (1.0,) * len(reads))
    return ScoreForm("+".join(names), "1", mean, reads, by_learned_fraction=True, expand=expand)


def print_ablation(found: Mapping[str, Cases], variants: Sequence[str]) -> None:
    """Each variation's mean, and how far it is from the whole form."""
    whole = next(iter(found.values()))
    print(f"\n| form | {' | '.join(f'{v} | against the first' for v in variants)} |")
    print("|---" * (1 + 2 * len(variants)) + "|")
    for name, cases in found.items():
        cells = []
        for variant in variants:
            keys = [key for key in whole if key[1] == variant]
            cells += [f"{_mean(cases, keys):.3f}", stratified([_paired(cases, whole, key) for key in keys])]
        print(f"| {name} | {' | '.join(cells)} |")


def _mean(cases: Cases, keys: Sequence[tuple[str, str, int]]) -> float:
    held = [key for key in keys if key in cases]
    return float(np.mean([np.mean(cases[key]) for key in held])) if held else float("-inf")


def _paired(one: Cases, other: Cases, key: tuple[str, str, int]) -> np.ndarray:
    return np.asarray(one[key]) - np.asarray(other[key])


def stratified(differences: Sequence[np.ndarray]) -> str:
    """Mean over cases of the mean over their queries, with its interval; queries are drawn again within each case."""
    rng = np.random.default_rng(0)
    draws = np.mean([d[rng.integers(len(d), size=(N_RESAMPLES, len(d)))].mean(1) for d in differences], axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{np.mean([d.mean() for d in differences]):+.3f} [{low:+.3f}, {high:+.3f}]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True, help="folder of a bench, with results.jsonl and models")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=["all"])
    parser.add_argument("--variants", nargs="+", default=["plain", "hard-negatives"])
    parser.add_argument("--only-table", action="store_true", help="leave the ablation out")
    parser.add_argument("--out", type=Path, help="JSON of every query of the ablation")
    return parser.parse_args()


if __name__ == "__main__":
    main()
