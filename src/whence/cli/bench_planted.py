"""`whence bench --base MODEL --data ROWS`: the options of a bench on a base and rows of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import say
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.bench import PlantedSettings

NAMES = {"n_rows": "--rows", "n_queries": "--queries", "learning_rate": "--learning-rate", "max_length": "--max-length"}


def bench_planted(
    asked: Mapping[str, object],
    tuning: Mapping[str, object],
    shares: str | None,
    out: Path,
    *,
    quiet: bool,
) -> None:
    """Runs the cases and writes and shows their report.

    asked, tuning: settings of the bench and of its fine-tune; those that are None keep their defaults.
    """
    from whence.bench import check_folder, planted_markdown, run_planted, write_report

    settings = _settings(asked, tuning, shares)
    check_folder(out)
    quiet_libraries()
    with stages("steps", quiet=quiet) as watch:
        result = run_planted(
            settings,
            out,
            stage=watch,
            notify=None if quiet else lambda sentence: say(sentence, err=True),
        )
    text = planted_markdown(result.results)
    written = write_report(out, text)
    if not quiet:
        say(text)
        say(f"{result.n_new} new cases; written: {written}, {out / 'cases'}", err=True)


def _settings(asked: Mapping[str, object], tuning: Mapping[str, object], shares: str | None) -> PlantedSettings:
    """The defaults with what was asked for in their place. Raises InputError for what cannot be."""
    from pydantic import ValidationError

    from whence.bench import FINETUNING, FULL_LEARNING_RATE, PlantedSettings

    chosen = {name: value for name, value in asked.items() if value is not None}
    changes = {name: value for name, value in tuning.items() if value is not None}
    if changes.get("lora_r") == 0:
        changes["lora_r"] = None
        changes.setdefault("learning_rate", FULL_LEARNING_RATE)
    if shares is not None:
        chosen["shares"] = _shares(shares)
    try:
        return PlantedSettings.model_validate(chosen | {"finetune": FINETUNING.model_dump() | changes})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(next((part for part in reversed(first["loc"]) if isinstance(part, str)), ""))
        flag = NAMES.get(name, f"--{name.replace('_', '-')}")
        raise InputError(
            f"{flag} {first['input']!r} cannot be used.", f"{first['msg']}.", "See whence bench --help."
        ) from None


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InputError(
            f"--shares {text!r} are no numbers.", "Expected shares of faulty rows.", "Give --shares 0.01,0.05,0.1."
        ) from None
