"""`whence bench`: every method on every case, on the same model, rows and queries; quality and cost in one row.

OUT/
  results.jsonl    one row per method, task, variant and seed (docs/evaluation/bench.md); appended to, never rewritten
  report.md        the tables
  quality-cost.png where matplotlib is installed
  models/          base models and fine-tunes, each named by a hash of what decided it
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from whence.bench.cases import BenchSettings, Case, CaseKey, case_keys
from whence.bench.costs import ChargedWork
from whence.bench.rows import FIGURES, ResultRow, method_row, one_line
from whence.bench.subject import train_case
from whence.errors import InputError, WhenceError
from whence.files import hash_of, write_atomically
from whence.methods import method_class, resolve_names
from whence.progress import Progress, silent

SCHEMA = "whence.bench/2"
ROW_BEGINS = f'{{"schema": "{SCHEMA}"'.encode()
"""How each line of a results file begins."""
RESULTS, MODELS = "results.jsonl", "models"
PACKAGES = ("whence", "torch", "transformers", "peft")
ASKED_FOR = (
    "tasks",
    "variants",
    "methods",
    "seeds",
    "data",
    "method_options",
    "text_encoder",
    "shared_bytes",
    "threads",
)
"""Settings that choose what is done, or concern one method, and are no part of every row's hash."""


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The rows that the settings ask for, in the order of cases and methods, and how many of them were made now."""

    folder: Path
    rows: tuple[ResultRow, ...]
    n_new: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """A case with the identity of each of its rows; `ids[method]` is the hash of all that decides that row."""

    key: CaseKey
    case: Case | None
    error: str | None
    ids: Mapping[str, str]


def run_bench(
    settings: BenchSettings,
    out: str | Path,
    *,
    progress: Progress | None = None,
    stage: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> BenchResult:
    """Runs what `OUT/results.jsonl` does not hold yet, and returns all rows that the settings ask for.

    progress: called with rows done and rows in all. stage: with what is done inside a case. notify: with a
        sentence on each new reason why a method or a case cannot run; the others go on, and `error` of the row says it.

    Raises:
        InputError: an unknown method, task or variant (names the nearest), or a results file that is damaged.
    """
    methods, keys, folder = resolve_names(settings.methods), case_keys(settings), Path(out)
    (folder / MODELS).mkdir(parents=True, exist_ok=True)
    results = folder / RESULTS
    known = {str(row["id"]): row for row in read_results(results)}
    found: list[ResultRow] = []
    said: set[str] = set()
    n_new, n_all = 0, len(keys) * len(methods)
    with _threads(settings):
        for key in keys:
            plan = _planned(key, methods, settings)
            missing = [name for name in methods if plan.ids[name] not in known]
            for row in _case_rows(plan, missing, settings, folder, stage or silent):
                known[str(row["id"])] = row
                _append(results, row)
                n_new += 1
                _tell(row, said, notify)
                if progress:
                    progress("comparing", len(found) + sum(identity in known for identity in plan.ids.values()), n_all)
            found += [known[plan.ids[name]] for name in methods]
            if progress:
                progress("comparing", len(found), n_all)
    return BenchResult(folder, tuple(found), n_new)


def _tell(row: ResultRow, said: set[str], notify: Callable[[str], None] | None) -> None:
    """Says why a row is a hole, each reason once."""
    reason = row["error"]
    if notify and reason and str(reason) not in said:
        said.add(str(reason))
        notify(f"{row['task']}, {row['variant']}, seed {row['seed']}: {row['method']}: {reason}")


@contextmanager
def _threads(settings: BenchSettings) -> Iterator[None]:
    """Runs with the settings' number of threads, and puts torch's back."""
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads or (1 if settings.data is None else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _planned(key: CaseKey, methods: list[str], settings: BenchSettings) -> _Plan:
    case, error = None, None
    try:
        case = key.make()
    except WhenceError as raised:
        error = one_line(raised)
    common = [SCHEMA, FIGURES, _common(settings), key.task, key.variant, key.seed, case.hash if case else error]

    def identity(name: str) -> str:
        options = settings.method_options.get(name, {})
        encoder = settings.text_encoder if name == "text-embedding" else None
        return hash_of([common, name, method_class(name).version, options, encoder])

    return _Plan(key, case, error, {name: identity(name) for name in methods})


def _common(settings: BenchSettings) -> ResultRow:
    """The settings that every row depends on."""
    return {name: value for name, value in settings.model_dump(mode="json").items() if name not in ASKED_FOR}


def _case_rows(
    plan: _Plan, methods: list[str], settings: BenchSettings, folder: Path, stage: Progress
) -> Iterator[ResultRow]:
    """The rows of a case's methods, one by one as they are done."""
    if not methods:
        return
    shared = ChargedWork(settings.shared_bytes)
    error, planted = plan.error, None
    if plan.case is not None:
        try:
            planted = train_case(plan.case, settings, folder / MODELS, shared, stage)
        except WhenceError as raised:
            error = one_line(raised)
    for name in methods:
        stage(name, 0, 1)
        row = _identity(plan, name, settings)
        if planted is None:
            yield row | {"error": error}
        else:
            yield row | method_row(name, planted, settings, shared)


def _identity(plan: _Plan, name: str, settings: BenchSettings) -> ResultRow:
    """What every row has: who, on what, by which settings; and no error yet."""
    return {
        "schema": SCHEMA,
        "id": plan.ids[name],
        "method": name,
        "method_version": method_class(name).version,
        "figures_version": FIGURES,
        "task": plan.key.task,
        "variant": plan.key.variant,
        "seed": plan.key.seed,
        "shuffled": settings.shuffle_labels,
        "error": None,
        "settings": _common(settings),
        "options": {**settings.method_options.get(name, {})},
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
    }


def _append(path: Path, row: ResultRow) -> None:
    """One whole line, on the disk before the next row begins."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_results(path: Path) -> list[ResultRow]:
    """The rows of a results file, none where there is no file. Raises InputError for a line that is no row.

    A last line without its end was being written when a run was killed: it is removed from the file, once every other
    line is known to be a row.
    """
    rows, whole = parsed_results(path)
    if path.exists() and whole != path.read_bytes():
        write_atomically(path, whole)
    return rows


def parsed_results(path: Path) -> tuple[list[ResultRow], bytes]:
    """The rows of a results file and its content in whole lines; nothing is written. Raises as `read_results`."""
    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    lines, rest = content[:end].splitlines(), content[end:]
    if rest and _row_of(rest) is not None:
        lines, content = [*lines, rest], content + b"\n"
    elif rest.startswith(ROW_BEGINS) or ROW_BEGINS.startswith(rest):
        content = content[:end]
    else:
        lines.append(rest)
    rows: list[ResultRow] = []
    for number, line in enumerate(lines, 1):
        row = _row_of(line)
        if row is None:
            raise InputError(
                f"{path}:{number} is no row of a bench.",
                f"Each line is one JSON object with schema {SCHEMA!r}.",
                "Give another folder with -o, or remove that line where the file is a bench's.",
            )
        rows.append(row)
    return rows, content


def _row_of(line: bytes) -> ResultRow | None:
    """The row that a line is, None where it is none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.get("schema") == SCHEMA else None
