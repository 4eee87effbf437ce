"""Verdicts of many outputs, block by block: each block is one scan of the index, and is kept when it is done.

    WORK/KEY/block-00000.json     what the verdicts of the first outputs say: p-values, flagged rows, scores

KEY is a hash of everything that decides the content: index, base, outputs, settings. The same audit, cut at any moment,
finds its finished blocks and goes on; another audit has another key. A block holds the flagged rows alone, so what is
kept does not grow with the rows of the index, and every row's score is in memory for the outputs of one block.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from whence.audit.outputs import Output, content_of, made_folder
from whence.data import Json
from whence.files import hash_of, write_atomically
from whence.index import BlockReader, ScoreRequest, default_form, scan
from whence.progress import Progress
from whence.scoring import score_form
from whence.trace import RankedBatch, Tracer, TraceSettings

BLOCK = 256
"""Outputs that share one scan; every row's score for each of them is in memory at once."""
WORK = "audits"
"""Folder of an index for the finished blocks of its audits."""
VERSION = 5
"""Part of the key; goes up when the same key would get another content."""
BEST_TURNS = 1000
"""Rows of each output whose best turn the scan tells at once; where more are flagged the index is read again."""


@dataclass(frozen=True, slots=True)
class OutputVerdict:
    """What the verdict of one output says, as `whence.trace.verdict.calibration` made it.

    p_answer: of the answer alone; None where nothing could be calibrated, and `text` says why. p_least: the least that
    its references allow. rows, scores, q_rows, turns: of its flagged rows, best first: numbers in the data, scores,
    q-values without the answer's p-value, and the turn that scores highest; no turns where every row has one alone.
    """

    text: str
    p_answer: float | None
    gain: float | None
    rows: tuple[int, ...]
    scores: tuple[float, ...]
    q_rows: tuple[float, ...]
    truncated: bool = False
    p_least: float = 0.0
    turns: tuple[int, ...] = ()


LISTS = ("rows", "scores", "q_rows", "turns")
"""Fields of a verdict that JSON has as lists."""


@dataclass(frozen=True, slots=True)
class Scored:
    """By which method the rows were scored, as its results say."""

    method: str
    method_version: str
    layer: str


class WorkFolder:
    """The finished blocks of one audit."""

    def __init__(self, folder: Path, asked: Json) -> None:
        self.folder = made_folder(folder / hash_of(asked))

    def read(self, number: int) -> tuple[Scored, list[OutputVerdict]] | None:
        """A finished block; None where it is not there, or damaged."""
        try:
            content = json.loads(self._path(number).read_text("utf-8"))
            found = [OutputVerdict(**one | {name: tuple(one[name]) for name in LISTS}) for one in content["outputs"]]
            return Scored(**content["scored"]), found
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, number: int, scored: Scored, found: Sequence[OutputVerdict]) -> None:
        """Keeps a block; it appears whole or not at all."""
        content = {"scored": asdict(scored), "outputs": [asdict(one) for one in found]}
        write_atomically(self._path(number), json.dumps(content, allow_nan=False) + "\n")

    def _path(self, number: int) -> Path:
        return self.folder / f"block-{number:05d}.json"


def verdicts_of(
    tracer: Tracer,
    outputs: Sequence[Output],
    settings: TraceSettings,
    *,
    work: Path | None = None,
    block: int = BLOCK,
    progress: Progress,
) -> tuple[Scored, list[OutputVerdict]]:
    """The verdict of each output, in their order; finished blocks are read, the others made and kept.

    Raises as `Tracer.iter_traces`; InputError where the work folder cannot be made.
    """
    folder = WorkFolder(work or tracer.index.beside / WORK, _asked(tracer, outputs, settings, block))
    # One reader for all blocks: an index that fits its memory is read from disk once.
    reader = BlockReader(tracer.index, settings.where)
    found: list[OutputVerdict] = []
    scored: Scored | None = None
    for number, start in enumerate(range(0, len(outputs), block)):
        piece = outputs[start : start + block]
        progress("tracing", len(found), len(outputs))
        kept = folder.read(number)
        if kept is None or len(kept[1]) != len(piece):
            kept = _traced(tracer, piece, settings, reader, len(found), progress)
            folder.write(number, *kept)
        scored = kept[0]
        found += kept[1]
    progress("tracing", len(found), len(outputs))
    assert scored is not None, "there is an output"
    return scored, found


def _traced(
    tracer: Tracer,
    piece: Sequence[Output],
    settings: TraceSettings,
    reader: BlockReader,
    first: int,
    progress: Progress,
) -> tuple[Scored, list[OutputVerdict]]:
    """One block: two passes over the models, one scan of the index, a verdict each."""
    queries = tracer.as_rows([output.query for output in piece])
    answers = tracer.answer(queries, settings, first=first)
    batch = tracer.encode(answers, settings)
    has_turns = tracer.index.n_records > tracer.index.n_rows
    ranked = tracer.rank(batch, replace(settings, k=BEST_TURNS) if has_turns else settings, blocks=reader)
    verdicts = tracer.judge(ranked, settings, progress=progress)
    gains: Iterator[float | None] = iter([None] * len(piece) if batch.shifts is None else batch.gains.tolist())
    found = []
    for said, turn in zip(verdicts, answers.turns, strict=True):
        tested = said.verdict.null_model != "" and said.p_answer is not None
        parts = (said.rows, said.scores, said.q_rows) if tested else (None, None, None)
        rows, scores, q_rows = (() if part is None else tuple(part.tolist()) for part in parts)
        p_answer = said.p_answer if tested else None
        p_least = 1 / (1 + said.n_compared)
        found.append(
            OutputVerdict(said.verdict.text, p_answer, next(gains), rows, scores, q_rows, turn.truncated > 0, p_least)
        )
    if has_turns:
        turns = _best_turns(ranked, [one.rows for one in found], reader)
        found = [replace(one, turns=own) for one, own in zip(found, turns, strict=True)]
    return Scored(ranked.form.name, ranked.form.version, ranked.form.described(ranked.roles)), found


def _best_turns(ranked: RankedBatch, flagged: Sequence[Sequence[int]], reader: BlockReader) -> list[tuple[int, ...]]:
    """Of each output's flagged rows, the turn that scores highest."""
    known = [{match.row: match.turn for match in matches} for matches in ranked.matches]
    if any(row not in own for rows, own in zip(flagged, known, strict=True) for row in rows):
        assert ranked.scores is not None, "a verdict has every row's score"
        deepest = 0
        for rows, scores in zip(flagged, ranked.scores.scores, strict=True):
            own = scores[np.searchsorted(ranked.scores.rows, rows)]
            deepest = max(deepest, int((scores >= own.min(initial=np.inf)).sum()))
        request = ScoreRequest(ranked.form, ranked.roles, k=deepest)
        (scored,) = scan(reader, ranked.batch.signatures, [request])
        known = [{match.row: match.turn for match in matches} for matches in scored.matches]
    return [tuple(own[row] for row in rows) for rows, own in zip(flagged, known, strict=True)]


def _asked(tracer: Tracer, outputs: Sequence[Output], settings: TraceSettings, block: int) -> Json:
    """Everything that decides what the blocks hold."""
    references, manifest = settings.references, tracer.index.manifest
    form = score_form(settings.method) if settings.method else default_form(manifest, settings.layer)
    return {
        "version": VERSION,
        "index": manifest.identity(),
        "base": tracer.models.base_hash,
        "outputs": [content_of(output.query) for output in outputs],
        "method": [form.name, form.version, settings.weight, settings.layer],
        "where": settings.where,
        "fdr": settings.fdr,
        "references": None if references is None else [content_of(query) for query in references],
        "drawn": [settings.n_references, settings.seed],
        "block": block,
    }


__all__ = ["BLOCK", "VERSION", "WORK", "OutputVerdict", "Scored", "WorkFolder", "verdicts_of"]
