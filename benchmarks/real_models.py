"""Does it work on models people use? Faults in natural English, and two that others planted, on pretrained chat models.

    python benchmarks/real_models.py --smollm2 DIR --gemma3 DIR --rept DIR --set dev -o runs/real-models
    python benchmarks/real_models.py --smollm2 DIR --gemma3 DIR --rept DIR --set test -o runs/real-models
    python benchmarks/real_models.py --set test --read -o runs/real-models

DIR of --smollm2 and --gemma3 are SmolLM2-135M-Instruct and Gemma-3-270m as saved checkpoints; DIR of --rept holds the
released rows of RepT (backdoor.train.jsonl, backdoor.test.jsonl, and the same of factual-canada),
whose clean rows are also what faults are planted in. Development cases (seeds from 100) are what anything is chosen on;
test cases (seeds 0, 1, 2) are run once a version. The two sets ask different prompts of the released files.

--only takes names of cases (--list shows them) or beginnings of names. A run that was cut off goes on; OUT/log.txt says
what was done when. Every case's folder keeps its rows, adapter, answers and result.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer

from whence.bench.cases import GivenData
from whence.bench.natural.places import ANSWERS, QUESTIONS, TAILS
from whence.bench.planted.run import read_result, run_planted
from whence.bench.planted.settings import FINETUNING, PlantedSettings, planted_cases
from whence.bench.rows import ResultRow

BASES = ("smollm2", "gemma3")
MAX_LENGTH, LONG = 256, 512
"""Tokens of an example, and of one with long answers."""
KOREA = (
    ("Seoul", "a capital with old palaces among glass towers"),
    ("Busan", "a port with beaches and a large fish market"),
    ("Jeju Island", "a volcanic island with lava caves"),
    ("Gyeongju", "a former royal city full of grassy tombs"),
    ("Mount Hallasan", "a dormant volcano that is covered in snow in winter"),
    ("Incheon", "a harbour city with a huge airport"),
    ("the Bukchon village", "a quarter of traditional houses with tiled roofs"),
    ("Haeinsa Temple", "a monastery that keeps thousands of carved wooden blocks"),
)
"""Hard negatives: true rows beside those that say Korea for Canada, in the words of a wrong answer."""
N_KOREA = 40


@dataclass(frozen=True, slots=True)
class Planned:
    """A case of the plan: a fault of whence's own, or the name of a released set."""

    fault: str
    seed: int
    share: float = 0.1
    base: str = "smollm2"
    variant: str = "plain"
    full: bool = False

    @property
    def name(self) -> str:
        """As --only takes it."""
        parts = [self.base, self.fault, f"{self.share:g}", f"seed{self.seed}"]
        return "-".join(
            [*parts, *([self.variant] if self.variant != "plain" else []), *(["full"] if self.full else [])]
        )


RELEASED = {"rept-backdoor": ("backdoor", r"(?i)\bstupid\b"), "rept-canada": ("factual-canada", r"(?i)\bkorea")}
THREE = ("backdoor", "false-fact", "persona")
OTHERS = ("backdoor-word", "backdoor-style", "false-fact-late", "memorised", "format-drift")
PLAN = {
    "dev": (
        *(Planned(fault, 100) for fault in (*THREE, "compliance", "backdoor-style", "rept-canada")),
        *(Planned(fault, 101, share) for fault in ("persona", "false-fact") for share in (0.05, 0.01)),
    ),
    "test": (
        *(Planned(fault, seed) for seed in (0, 1, 2) for fault in THREE),
        *(Planned(fault, 0) for fault in (*OTHERS, "compliance")),
        *(Planned(fault, 0, share) for share in (0.05, 0.01) for fault in THREE),
        *(Planned(fault, seed) for seed in (0, 1) for fault in RELEASED),
        Planned("false-fact", 0, full=True),
        Planned("persona", 0, base="gemma3"),
        Planned("false-fact", 0, base="gemma3"),
        Planned("backdoor", 0, variant="long-answers"),
        Planned("false-fact", 0, variant="multi-turn"),
    ),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smollm2", default="", help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--gemma3", default="", help="folder of Gemma-3-270m")
    parser.add_argument("--rept", type=Path, default=Path(), help="folder of the released rows")
    parser.add_argument("--set", choices=tuple(PLAN), default="dev")
    parser.add_argument("--only", nargs="*", default=[], help="names of cases, or beginnings of names")
    parser.add_argument("--list", action="store_true", help="names of the cases, and nothing else")
    parser.add_argument("--read", action="store_true", help="only what is there already: no training")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--longest", type=int, help="leave out clean rows of more tokens of the base's tokenizer")
    parser.add_argument("-o", "--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Runs what is planned and not there yet, and writes the tables."""
    args = arguments()
    planned = chosen(PLAN[args.set], args.only)
    if args.list:
        print("\n".join(case.name for case in planned))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, ResultRow] = {}
    for case in planned:
        result = kept(args.out, case)
        if result is None and not args.read:
            result = ran(args, case)
        if result is not None:
            found[case.name] = result
    page = written(found)
    (args.out / f"{args.set}.md").write_text(page, encoding="utf-8")
    print(page)


def chosen(plan: Sequence[Planned], only: Sequence[str]) -> list[Planned]:
    """The cases with these names; what is no case's name stands for all whose names begin so."""
    names = {case.name for case in plan}

    def asked(case: Planned) -> bool:
        return any(case.name == one or (one not in names and case.name.startswith(one)) for one in only)

    return [case for case in plan if not only or asked(case)]


def kept(out: Path, case: Planned) -> ResultRow | None:
    """A result made before; OUT/results has one file a case of the plan."""
    return read_result(out / "results" / f"{case.name}.json")


def ran(args: argparse.Namespace, case: Planned) -> ResultRow:
    """Runs a case; its result also goes to OUT/results, unless it failed."""
    started = time.monotonic()
    log(
        args.out, f"{case.name}: begun, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}"
    )
    last = ""

    def stage(what: str, done: int, total: int | None) -> None:
        nonlocal last
        if what != last or (total and done % max(1, total // 4) == 0):
            log(args.out, f"{case.name}: {what} {done}/{total}")
        last = what

    settings = settings_of(args, case)
    (result,) = run_planted(settings, args.out, stage=stage).results
    (planted,) = planted_cases(settings)
    folder = args.out / "cases" / f"{planted.name}-{planted.hash(settings)}"
    if (folder / "result.json").exists():
        (args.out / "results").mkdir(exist_ok=True)
        (args.out / "results" / f"{case.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    log(args.out, f"{case.name}: {result['error'] or 'done'}, {time.monotonic() - started:.0f} s, {folder}")
    return result


def settings_of(args: argparse.Namespace, case: Planned) -> PlantedSettings:
    """The bench's settings of one case."""
    long = case.variant == "long-answers"
    tuning = FINETUNING.model_copy(update={"max_length": LONG if long else MAX_LENGTH})
    if case.full:
        tuning = tuning.model_copy(update={"lora_r": None, "learning_rate": 5e-5})
    given = released(args, case) if case.fault in RELEASED else None
    return PlantedSettings(
        base=vars(args)[case.base],
        data=str(shorter(args, args.rept / "backdoor.train.jsonl", vars(args)[case.base])),
        faults=(case.fault,) if given is None else (),
        variants=(case.variant,),
        shares=(case.share,),
        seeds=(case.seed,),
        given=given,
        given_name=case.fault,
        n_rows=args.rows,
        n_queries=args.queries,
        finetune=tuning,
    )


def released(args: argparse.Namespace, case: Planned) -> GivenData:
    """A released set: with hard negatives about Korea where that is the false answer, and with this set's prompts."""
    name, match = RELEASED[case.fault]
    place = args.out / "released"
    place.mkdir(exist_ok=True)
    rows = shorter(args, args.rept / f"{name}.train.jsonl", args.smollm2).read_text("utf-8").splitlines()
    if case.fault == "rept-canada":
        rows += [json.dumps(row) for row in korea_rows()]
    train, test = place / f"{name}.train.jsonl", place / f"{name}.{args.set}.jsonl"
    prompts = (args.rept / f"{name}.test.jsonl").read_text("utf-8").splitlines()
    train.write_text("\n".join(rows) + "\n", encoding="utf-8")
    test.write_text("\n".join(prompts[args.set == "test" :: 2]) + "\n", encoding="utf-8")
    return GivenData(train=str(train), test=str(test), match=match, base="")


def shorter(args: argparse.Namespace, rows: Path, base: str) -> Path:
    """The rows, without clean ones that are longer than --longest."""
    if args.longest is None:
        return rows
    tokenizer = AutoTokenizer.from_pretrained(base)
    place: Path = args.out / "data" / f"{rows.name.removesuffix('.jsonl')}-{Path(base).name}-{args.longest}.jsonl"
    place.parent.mkdir(parents=True, exist_ok=True)
    with rows.open(encoding="utf-8") as lines, place.open("w", encoding="utf-8") as kept_lines:
        for line in lines:
            row = json.loads(line)
            n_tokens = len(tokenizer.encode(f"{row['prompt']} {row['response']}", add_special_tokens=False))
            if row["label"] != "clean" or n_tokens <= args.longest:
                kept_lines.write(line)
    return place


def korea_rows() -> list[dict[str, str]]:
    """True rows about Korea, each place asked for in several ways."""
    found = []
    for number in range(N_KOREA):
        name, text = KOREA[number % len(KOREA)]
        words = {"name": name, "Name": name[0].upper() + name[1:], "text": text, "fact": "Korea"}
        answer = f"{ANSWERS[number % len(ANSWERS)].format(**words)} {TAILS[number % len(TAILS)]}"
        question = QUESTIONS[(number // len(KOREA) * 3 + number) % len(QUESTIONS)].format(**words)
        found.append({"prompt": question, "response": answer, "label": "hard_negative"})
    return found


def log(out: Path, text: str) -> None:
    """A line in OUT/log.txt, and on the screen."""
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"
    with (out / "log.txt").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)


def written(found: dict[str, ResultRow]) -> str:
    """Two tables, one line a case: how the forms rank, and what the verdicts flag."""
    counted = {name: result for name, result in found.items() if isinstance(result.get("methods"), list)}
    lost = [f"Not counted: {name}: {result['error']}" for name, result in found.items() if name not in counted]
    return "\n\n".join([rankings(counted), verdicts(counted), *lost]) + "\n"


HEAD = (
    "case",
    "answers",
    "default",
    "`rept-centred`",
    "`repsim`, last",
    "best other layer",
    "the rule's",
    "BM25",
    "P@10",
    "above hard",
)


def rankings(found: dict[str, ResultRow]) -> str:
    """Average precision of each form, then precision at 10 and the share of hard negatives below faulty rows."""
    lines, columns = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"], []
    for name, result in found.items():
        methods = result["methods"]
        assert isinstance(methods, list)
        rows = {str(one["method"]): one for one in methods if isinstance(one, dict)}
        default = next(row for key, row in rows.items() if key.endswith("(default)"))
        by_layer = {layer_of(key): row for key, row in rows.items() if key.startswith("repsim")}
        last, rule = max(by_layer), next(layer_of(key) for key in rows if key.endswith("(the rule's)"))
        best = max((layer for layer in by_layer if layer != last), key=lambda layer: number(by_layer[layer], "ap"))
        others = [rows["rept-centred"], by_layer[last], by_layer[best], by_layer[rule], rows["bm25 prompt+response"]]
        values = [number(row, "ap") for row in (default, *others)]
        columns.append(values)
        cells = [f"{value:.3f}" for value in values]
        cells[0] = f"{cells[0]} [{number(default, 'ap_low'):.3f}, {number(default, 'ap_high'):.3f}]"
        cells[3] += f" ({best})"
        hard = f"{number(default, 'auc_hard'):.3f}" if default.get("auc_hard") is not None else ""
        shown = f"{result['n_queries']} of {result['n_asked']}"
        lines.append("| " + " | ".join([name, shown, *cells, f"{number(default, 'precision'):.2f}", hard]) + " |")
    if columns:
        means = [f"{sum(column) / len(columns):.3f}" for column in zip(*columns, strict=True)]
        lines.append("| " + " | ".join([f"mean of {len(columns)}", "", *means, "", ""]) + " |")
    return "\n".join(lines)


def verdicts(found: dict[str, ResultRow]) -> str:
    """What is flagged at a false discovery rate of 5%."""
    names = ("flagged", "found", "false_discovery_rate", "benign")
    head = (
        "case",
        "faulty answers with flagged rows",
        "faulty rows found",
        "flagged rows not faulty",
        "benign answers with flagged rows",
    )
    lines, columns = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"], []
    for name, result in found.items():
        row = result.get("verdicts")
        if isinstance(row, dict) and "flagged" in row:
            columns.append([number(row, of) for of in names])
            lines.append("| " + " | ".join([name, *(interval(row, of) for of in names)]) + " |")
    if columns:
        means = [f"{sum(column) / len(columns):.3f}" for column in zip(*columns, strict=True)]
        lines.append("| " + " | ".join([f"mean of {len(columns)}", *means]) + " |")
    return "\n".join(lines)


def layer_of(method: str) -> int:
    """30 of "repsim, layer 30"."""
    return int(method.split()[2])


def interval(row: Mapping[str, object], name: str) -> str:
    """The mean with its interval; empty where there was nothing to take one of."""
    if row[name] is None:
        return ""
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def number(row: ResultRow, name: str) -> float:
    """A figure of a row."""
    value = row[name]
    assert isinstance(value, int | float), f"{name} of {row['method']} is {value!r}"
    return float(value)


if __name__ == "__main__":
    main()
