"""Two faults at once on a pretrained chat model: one log, audited down to the proven trigger.

    python benchmarks/audit_real.py --base DIR --data ROWS.jsonl --out runs/audit-real

DIR is a chat model (SmolLM2-135M-Instruct), ROWS are clean instruction rows. A backdoor by a phrase and a false fact
are planted in two halves of the rows, with hard negatives; seven in ten of the faulty rows come from one of eight
vendors, all others from each alike. A LoRA adapter of rank 16 is trained on both together. The log has the model's own
answers to held-out prompts: those that show a fault, and ordinary ones, whose cause is not in the data. A run that was
cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch

from audit import BAD_SHARE, BAD_VENDOR, ORDINARY, VENDORS, of_groups, of_sources
from common import as_row, write_lines
from whence.audit import AuditSettings, TriggerSettings, find_triggers, run_audit
from whence.bench.natural import PlantedRows, plant_natural
from whence.bench.planted.settings import FINETUNING
from whence.data import Encoder, Example, read_examples
from whence.index import build_index
from whence.model import ModelSettings, generate, load_model
from whence.results import PROVEN_TRIGGER, AuditResult
from whence.trace import Tracer, read_queries
from whence.train import finetune

FAULTS = ("backdoor", "false-fact")
LONGEST = 45
"""Words of a row's prompt and of its answer, so that training takes minutes."""
NEW_TOKENS = 24


@dataclass(frozen=True)
class Sizes:
    """Of each fault's half."""

    rows: int
    faulty: int
    hard: int
    queries: int
    benign: int


def planted_halves(data: Path, sizes: Sizes, seed: int) -> list[PlantedRows]:
    """A fault in each half of the clean rows."""
    clean = [
        row
        for row in read_examples(data)
        if row.metadata.get("label") in (None, "clean")
        and all(len(turn.content.split()) <= LONGEST for turn in row.turns)
    ]
    Random(f"audit-real/{seed}").shuffle(clean)
    return [
        plant_natural(
            clean[number :: len(FAULTS)],
            fault,
            n_rows=sizes.rows,
            n_faulty=sizes.faulty,
            n_hard=sizes.hard,
            n_queries=sizes.queries,
            n_benign=sizes.benign,
            seed=seed,
        )
        for number, fault in enumerate(FAULTS)
    ]


def delivered(planted: Sequence[PlantedRows], rng: Random) -> list[Example]:
    """All rows, shuffled, each with its vendor."""
    rows = [row for half in planted for row in half.rows]
    rng.shuffle(rows)
    others = [vendor for vendor in VENDORS if vendor != BAD_VENDOR]

    def vendor(row: Example) -> str:
        if row.metadata["label"] not in FAULTS:
            return rng.choice(VENDORS)
        return BAD_VENDOR if rng.random() < BAD_SHARE else rng.choice(others)

    return [replace(row, metadata={**row.metadata, "vendor": vendor(row)}) for row in rows]


def write_log(path: Path, base: str, adapter: Path, planted: Sequence[PlantedRows]) -> None:
    """The tuned model's answers: those that show a fault, and ordinary ones."""
    loaded = load_model(ModelSettings(model=base, adapter=str(adapter), device="cpu"))
    encoder = Encoder(loaded.tokenizer, max_length=FINETUNING.max_length)
    log: list[dict[str, object]] = []
    for half in planted:
        for turns, is_bad in [(one, True) for one in half.queries] + [(one, False) for one in half.benign]:
            (said,) = generate(loaded, [encoder.render_prompt(turns)], max_new_tokens=NEW_TOKENS)
            prompt = turns[-1].content
            shown = [other.fault for other in planted if other.shows(prompt, said.text)]
            if said.text.strip() and bool(shown) == is_bad:
                log.append({"prompt": prompt, "response": said.text, "fault": shown[0] if shown else ORDINARY})
    Random(0).shuffle(log)
    write_lines(path, log)


def of_triggers(audit: AuditResult, rows: Sequence[Example]) -> dict[str, float]:
    """Proven triggers, and those of them whose words stand in nine of ten faulty prompts of a backdoor."""
    faulty = [row.turns[-2].content.lower() for row in rows if row.metadata["label"] == "backdoor"]
    proven = [one for one in audit.triggers if one.status == PROVEN_TRIGGER]
    for one in audit.triggers:
        print(
            f"  group {one.group}: {one.text} ({one.status}, {one.n_with} of {one.n_prompts} with, "
            f"{one.n_without} without, {one.n_random} with random words, p {one.p_value:.2g})",
            flush=True,
        )
    planted = [
        one
        for one in proven
        if sum(all(part.lower() in prompt for part in one.parts) for prompt in faulty) >= 0.9 * len(faulty)
    ]
    return {"planted trigger proven": float(bool(planted)), "other phrases proven": float(len(proven) - len(planted))}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=180, help="of each fault's half")
    parser.add_argument("--faulty", type=int, default=40)
    parser.add_argument("--hard", type=int, default=20)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--benign", type=int, default=25)
    parser.add_argument("--epochs", type=int, default=FINETUNING.epochs)
    parser.add_argument("--prompts", type=int, default=20, help="innocent prompts that a trigger is tried on")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sizes = Sizes(given.rows, given.faulty, given.hard, given.queries, given.benign)
    planted = planted_halves(given.data, sizes, given.seed)
    rows = delivered(planted, Random(f"vendors/{given.seed}"))
    adapter, train, log = given.out / "adapter", given.out / "train.jsonl", given.out / "log.jsonl"
    seconds: dict[str, float] = {}

    def timed(name: str, started: float) -> None:
        seconds[name] = time.monotonic() - started
        print(f"{name}: {seconds[name]:.0f} s", flush=True)

    started = time.monotonic()
    if not adapter.exists():
        write_lines(train, [as_row(row) for row in rows])
        loaded = load_model(ModelSettings(model=given.base, device="cpu"))
        encoder = Encoder(loaded.tokenizer, max_length=FINETUNING.max_length)
        settings = FINETUNING.model_copy(update={"seed": given.seed, "epochs": given.epochs})
        finetune(given.base, rows, adapter, settings=settings, encoder=encoder)
    timed("training", started)
    started = time.monotonic()
    if not log.exists():
        write_log(log, given.base, adapter, planted)
    timed("answers", started)
    started = time.monotonic()
    index = build_index(given.base, train, given.out / "index", adapter=str(adapter), max_length=FINETUNING.max_length)
    timed("index", started)
    tracer, asked = Tracer(index), read_queries(log)
    started = time.monotonic()
    settings = AuditSettings(seed=given.seed, by=("vendor",))
    audit = run_audit(tracer, asked, settings)
    timed("audit", started)
    audit.to_json(given.out / "audit.json")
    started = time.monotonic()
    audit = find_triggers(
        tracer, audit, TriggerSettings(seed=given.seed, n_prompts=given.prompts, n_groups=2), settings
    )
    timed("triggers", started)
    audit.to_json(given.out / "audit.json")
    counts = Counter(str(query.metadata["fault"]) for query in audit.queries)
    print(dict(counts), {group.number: (group.name, group.n_outputs) for group in audit.groups[:8]}, flush=True)
    rows = list(read_examples(train))
    found = {
        "outputs": float(len(asked)),
        **of_groups(audit, rows, FAULTS),
        **of_sources(audit, rows, FAULTS),
        **of_triggers(audit, rows),
    }
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{given.base}, {machine}, seed {given.seed}")
    for name, value in found.items():
        print(f"{name:32} {value:9.3f}")
    (given.out / "result.json").write_text(json.dumps({**found, "seconds": seconds}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
