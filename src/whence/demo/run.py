"""The demo from end to end: plant faults, trace them and count how often that was right; then follow one to its end.

OUT/ beside the world's files (whence.demo.world; whence.demo.real_model for a base of the user's):
  index/                              of the training rows
  confirm/                            the retrained models, and confirmation.json
  cleaned.jsonl, cleaned.manifest.json, removed.jsonl
                                      the data without the flagged rows, the manifest that undoes it, and those rows
  report.html                         the traces of the fault that is followed
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from numpy.typing import ArrayLike

from whence.cleaning import clean
from whence.confirmation import FLAGGED, Confirmation, apply, confirm
from whence.demo.real_model import build_on
from whence.demo.world import MARKER, MAX_NEW_TOKENS, DemoFault, DemoWorld, build, one_thread
from whence.errors import InputError
from whence.files import TEMPORARY
from whence.index import build_index, default_form, default_layers, score_matrix
from whence.metrics import over_queries, precision_at_k
from whence.model import LayerRequest
from whence.progress import Progress, silent
from whence.results import QueryResult, flagged_rows
from whence.scoring import bm25_scores
from whence.trace import N_REFERENCES, Query, Tracer

K = 10
STORY = "false-fact"
"""The fault that is followed: its verdict, a model trained again without the flagged rows, and the cleaned data."""
STORY_QUERIES = 8
EXPLAINED = 5
REAL_QUERIES, REAL_EXPLAINED, REAL_REFERENCES = 4, 2, 48
"""What is asked of a real model, of which every answer takes a hundred times as long."""
CLEANED, CLEAN_MANIFEST, REMOVED, REPORT = "cleaned.jsonl", "cleaned.manifest.json", "removed.jsonl", "report.html"
PARTS = frozenset(
    {
        MARKER,
        "base",
        "model",
        "adapter",
        "index",
        "train.jsonl",
        "queries.jsonl",
        "confirm",
        CLEANED,
        CLEAN_MANIFEST,
        REMOVED,
        REPORT,
        "audit.html",
        "audit.json",
    }
)


@dataclass(frozen=True, slots=True)
class FaultReport:
    """One planted fault: a query that shows it with its ranking, and precision at 10 over all queries that do.

    precision: method -> share of a query's first ten faulty rows of this fault, mean over the queries.
    """

    label: str
    n_faulty: int
    rate: float
    example: QueryResult
    precision: Mapping[str, float]
    n_queries: int


@dataclass(frozen=True, slots=True)
class Story:
    """One fault followed to its end.

    n_flagged:      rows that the verdicts of the queries flag together; n_faulty of them are faulty rows of the fault.
    confirmation: what retraining without them, and without as many random rows, showed.
    answers:      (prompt, bad answer, answer of the model trained without the rows) of each query.
    """

    label: str
    n_flagged: int
    n_faulty: int
    confirmation: Confirmation
    answers: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo found, and where it left everything."""

    folder: Path
    index: Path
    seed: int
    world: DemoWorld
    faults: tuple[FaultReport, ...]
    story: Story | None
    """None where the verdicts flag no row, so that there is nothing to remove."""
    seconds: Mapping[str, float]


def run_demo(
    out: str | Path,
    *,
    base: str | Path | None = None,
    data: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DemoReport:
    """Builds the world in `out`, indexes it there, traces every planted fault and follows one to its end.

    base: a chat model, a folder or a hub name, of which an adapter learns the fault that is followed, in natural
          English; None trains a small model here, with three faults. data: rows of the user's own for it to learn
          among, instead of ordinary ones made here. overwrite: a demo that is in `out` is removed once the new one's
          model is trained; it stays where that fails.

    Raises:
        InputError: `out` is there already, or is to be overwritten and is not a demo; data without a base; a base that
            shows the fault or does not learn it.
        ModelError, DataError: the base or the data cannot be read.
    """
    tell = progress or silent
    if data is not None and base is None:
        raise InputError(
            "Rows for the demo without a base.",
            "The small model that the demo trains knows no other rows than its own.",
            "Give --base MODEL too.",
        )
    with _set_aside(Path(out), base, data) if overwrite else nullcontext():
        if base is None:
            world = build(Path(out), seed=seed, progress=tell)
        else:
            world = build_on(base, out, data=data, seed=seed, progress=tell)
    started = time.monotonic()
    # The small model's layers are compared with the paper's; a real one is read as users' are.
    layers: list[LayerRequest] = ["auto", "last"] if base is None else ["last"]
    index = build_index(world.model, world.data, Path(out) / "index", layers=layers, progress=tell)
    tracer = Tracer(index)
    seconds = dict(world.seconds) | {"index": time.monotonic() - started}
    started = time.monotonic()
    faults = tuple(_report(tracer, world, fault) for fault in world.faults if fault.shown)
    seconds["trace"] = time.monotonic() - started
    started = time.monotonic()
    followed = next(fault for fault in world.faults if fault.label == STORY)
    with one_thread() if base is None else nullcontext():
        story = _story(tracer, world, followed, Path(out), tell, is_real=base is not None)
    seconds["proof"] = time.monotonic() - started
    return DemoReport(Path(out), Path(out) / "index", seed, world, faults, story, seconds)


@contextmanager
def _set_aside(folder: Path, *used: str | Path | None) -> Iterator[None]:
    """Moves the demo in `folder` away while another is built there; then it is removed, or moved back on failure.

    used: places that the new demo reads.

    Raises:
        InputError: the folder is not a demo, or holds one of these places; it is left as it is.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        yield
        return
    _check_demo(folder, [place for place in used if place is not None])
    aside = folder.with_name(f"{TEMPORARY}{uuid4().hex[:12]}-{folder.name}")
    folder.rename(aside)
    try:
        yield
    except BaseException:
        aside.rename(folder)
        raise
    shutil.rmtree(aside)


def _check_demo(folder: Path, used: Sequence[str | Path]) -> None:
    own = folder.is_dir() and not folder.is_symlink()
    others = sorted(path.name for path in folder.iterdir() if path.name not in PARTS) if own else []
    if not own or others or not (folder / MARKER).is_file():
        why = f"it holds {others[0]}" if others else f"it has no {MARKER}" if own else "it is a file or a link"
        raise InputError(
            f"{folder} is not a demo: {why}.",
            f"Only a demo is replaced, which has a {MARKER} (those of earlier versions have none).",
            "Give another folder with -o, or remove this one by hand.",
        )
    inside = [place for place in used if Path(place).resolve().is_relative_to(folder.resolve())]
    if inside:
        raise InputError(
            f"{inside[0]} lies in the demo that is to be replaced.",
            "It is read for the new demo.",
            "Give another folder with -o, or move it out of there.",
        )


def _report(tracer: Tracer, world: DemoWorld, fault: DemoFault) -> FaultReport:
    queries = [Query.of(query.prompt, query.response) for query in fault.shown]
    faulty = [example.metadata.get("label") == fault.label for example in world.train]
    (example,) = tracer.trace_many(queries[:1], k=K, verdict=False)
    signatures = tracer.signatures([q.encode(tracer.encoder) for q in queries])
    form = default_form(tracer.index.manifest)
    ranked = score_matrix(
        tracer.index, signatures, method=form, roles=default_layers(form, tracer.index.manifest)
    ).scores
    texts = [" ".join(turn.content for turn in row.turns) for row in world.train]
    by_words = bm25_scores([f"{query.prompt} {query.response}" for query in fault.shown], texts)
    precision = {form.name: _mean_precision(ranked, faulty), "bm25": _mean_precision(by_words, faulty)}
    return FaultReport(fault.label, sum(faulty), fault.rate, example, precision, len(queries))


def _story(
    tracer: Tracer, world: DemoWorld, fault: DemoFault, out: Path, tell: Progress, *, is_real: bool
) -> Story | None:
    """From a bad answer to the data without its cause; None where no row is flagged."""
    n_queries, explained = (REAL_QUERIES, REAL_EXPLAINED) if is_real else (STORY_QUERIES, EXPLAINED)
    references = REAL_REFERENCES if is_real else N_REFERENCES
    queries = [Query.of(query.prompt, query.response) for query in fault.shown[:n_queries]]
    result = tracer.trace_many(
        queries, k=K, words=explained, n_references=references, answer_tokens=MAX_NEW_TOKENS, progress=tell
    )
    if not any(query.verdict is not None and query.verdict.flagged for query in result):
        result.to_html(out / REPORT)
        return None
    flagged = flagged_rows(result)
    confirmation = confirm(
        tracer,
        queries,
        out / "confirm",
        match=fault.matcher.pattern,
        removed=flagged.ids,
        base=world.base,
        controls=(),
        max_new_tokens=MAX_NEW_TOKENS,
        progress=tell,
    )
    apply(result, confirmation).to_html(out / REPORT)
    clean(
        world.data,
        out / CLEANED,
        flagged,
        manifest=out / CLEAN_MANIFEST,
        quarantine=out / REMOVED,
    )
    gone = set(flagged.ids)
    taken = [row.metadata.get("label") for row in world.train if row.id in gone]
    repaired = confirmation.arm(FLAGGED).seeds[0].answers
    answers = tuple((query.prompt, query.response, now) for query, now in zip(result, repaired, strict=True))
    return Story(fault.label, len(taken), taken.count(fault.label), confirmation, answers)


def _mean_precision(scores: ArrayLike, faulty: Sequence[bool]) -> float:
    return over_queries(lambda row, marks: precision_at_k(row, marks, K), scores, faulty).mean
