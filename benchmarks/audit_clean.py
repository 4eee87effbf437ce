"""Triggers where nothing is planted: `audit.py --clean`.

The clean models of `audit_scan.py`, two a seed. For each, `LOGS` logs of `OUTPUTS` of the model's own answers to
ordinary questions, as a user would give who takes them for bad, are audited and searched for triggers. Counted are the
runs in which a phrase is said to be proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from audit_scan import CLEAN_SETS, clean_world
from whence.audit import AuditSettings, TriggerSettings, find_triggers, run_audit
from whence.bench.faults.background import pairs
from whence.demo.world import answer
from whence.results import PROVEN_TRIGGER, Trigger
from whence.trace import Query, Tracer

LOGS, OUTPUTS = 4, 60


def run_clean(out: Path, seeds: Sequence[int]) -> dict[str, object]:
    """Groups and proven triggers of each run, and the runs without one."""
    found: dict[str, object] = {}
    without = runs = 0
    for seed in seeds:
        for number in range(CLEAN_SETS):
            place = clean_world(out, seed, number)
            tracer = Tracer(place / "index", model=str(place / "model"))
            for log in range(LOGS):
                groups, proven = of_log(tracer, out / "work-clean", Random(f"log/{seed}/{number}/{log}"), seed)
                said = {"groups": groups, "proven": [one.text for one in proven]}
                found[f"set {number}, log {log}, seed {seed}"] = said
                print(seed, number, log, said, flush=True)
                runs, without = runs + 1, without + (not proven)
    return {**found, "in all": {"runs without a proven trigger": f"{without} of {runs}"}}


def of_log(tracer: Tracer, work: Path, rng: Random, seed: int) -> tuple[int, list[Trigger]]:
    """The number of groups of one log, and the triggers that are said to be proven."""
    prompts = [prompt for prompt, _ in pairs(OUTPUTS, rng)]
    said = answer(tracer.loaded, prompts)
    asked = [Query.of(prompt, text) for prompt, text in zip(prompts, said, strict=True) if text.strip()]
    settings = AuditSettings(seed=seed, answer_tokens=40)
    audit = run_audit(tracer, asked, settings, work=work)
    audit = find_triggers(tracer, audit, TriggerSettings(seed=seed), settings)
    return len(audit.groups), [one for one in audit.triggers if one.status == PROVEN_TRIGGER]


__all__ = ["run_clean"]
