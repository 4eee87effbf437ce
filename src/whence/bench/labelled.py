"""`whence eval`: how well each score form, read from an index, finds the rows that carry the query's label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from whence.data import ASSISTANT, TEXT, EncodedTurn, Example, Json, Turn
from whence.errors import InputError
from whence.files import did_you_mean
from whence.index import Index, Record, default_layers, score_matrix
from whence.metrics import Figures, average_precision, measure
from whence.model import generate
from whence.results import encode, json_text
from whence.scoring import SCORES, bm25_scores, score_form
from whence.trace import ANSWER_TOKENS, Query, Tracer

SCHEMA = "whence.eval/2"
TEXT_BASELINES = ("bm25-full", "random-scores")
"""Baselines that need nothing but the index's text."""


@dataclass(frozen=True, slots=True)
class SkippedQuery:
    """A query that could not be counted, and why."""

    query: int
    prompt: str
    reason: str


@dataclass(frozen=True, slots=True)
class MethodEvaluation:
    """Figures of one method, or the reason why it has none. `by_query[i]` is the average precision of query i."""

    method: str
    figures: Figures | None
    by_query: tuple[float, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well every method finds the rows of the queries' labels. Queries are numbered from 1 as they were given."""

    index: str
    label_column: str
    n_rows: int
    queries: tuple[int, ...]
    labels: tuple[str, ...]
    """Of the queries that count."""
    own_rows: tuple[int, ...]
    """Of each query that counts, how many rows of the index are the query itself, and are not ranked for it."""
    skipped: tuple[SkippedQuery, ...]
    methods: tuple[MethodEvaluation, ...]

    def to_json(self, path: str | Path | None = None) -> str:
        """The JSON text, schema `whence.eval/2`; also written to `path` when one is given."""
        return json_text(SCHEMA, encode(self), path)


def evaluate(
    index: Index | str | Path | Tracer,
    queries: Sequence[Query],
    *,
    label_column: str = "label",
    methods: Sequence[str] | None = None,
    k: int = 10,
    seed: int = 0,
) -> Evaluation:
    """Ranks all rows of the index for every query and counts the rows that carry the query's own label.

    queries:  each with its label in its metadata; one without a response is answered by the model now.
    methods:  names of score forms or of `TEXT_BASELINES`; None takes all of them.

    A query whose label is missing, or is carried by no row or by every row, is left out with its reason; a method that
    this index cannot serve is left out with its reason. Rows that are the query itself, prompt and response, are not
    ranked for it: finding them shows nothing.

    Raises:
        InputError: a method or a label column that does not exist (names the nearest), or no query that can be counted.
        IndexFolderError, ModelError: as `Tracer`.
    """
    wanted = _checked(methods)
    tracer = index if isinstance(index, Tracer) else Tracer(index)
    names = wanted or _served(tracer.index)
    records = _records(tracer.index)
    rows = np.unique([record.row for record in records])
    labels = _row_labels(records, label_column)
    kept, skipped = _countable(queries, labels, label_column)
    said, skipped = _answered(tracer, tracer.as_rows(queries), kept, skipped)
    row_ids = np.array([row_id for _, row_id in sorted({record.row: record.id for record in records}.items())])
    of_row = np.array([labels[row] for row in rows.tolist()], dtype=object)
    asked: dict[int, Query] = {}
    relevant, others = [], []
    for number, query in said.items():
        carries = of_row == _label(query, label_column)
        ranked = ~np.isin(row_ids, _ids(query))
        if 0 < carries[ranked].sum() < ranked.sum():
            asked[number] = query
            relevant.append(carries)
            others.append(ranked)
        else:
            reason = f"Beside the row that query {number + 1} is itself, no row or every row has its {label_column}."
            skipped.append(SkippedQuery(number + 1, query.prompt, reason))
    if not asked:
        raise InputError(
            f"None of {len(queries)} queries can be counted. {skipped[0].reason}",
            f"Each query needs a {label_column!r} that some rows of the index carry, and some do not.",
            "Name the column of the queries and of the training data with --label-column.",
        )
    counted = np.stack(others)
    encoded = [query.encode(tracer.encoder) for query in asked.values()]
    score = _scorer(tracer, encoded, records, rows, seed)
    found = tuple(_evaluated(name, score, np.stack(relevant), counted, k, seed) for name in names)
    return Evaluation(
        index=str(tracer.index.path),
        label_column=label_column,
        n_rows=len(rows),
        queries=tuple(number + 1 for number in asked),
        labels=tuple(str(_label(query, label_column)) for query in asked.values()),
        own_rows=tuple((~counted).sum(axis=1).tolist()),
        skipped=tuple(skipped),
        methods=found,
    )


def _checked(methods: Sequence[str] | None) -> list[str]:
    """The methods asked for, each once. Raises InputError for one that there is not."""
    known = [*SCORES, *TEXT_BASELINES]
    for name in methods or ():
        if name not in known:
            raise InputError(
                f"There is no method {name!r} that an index can serve.",
                f"Known: {', '.join(known)}.",
                did_you_mean(name, known, "Other methods need the model: see `whence bench`."),
            )
    return list(dict.fromkeys(methods or ()))


def _served(index: Index) -> list[str]:
    """Every method that the index has vectors for."""
    return [*(name for name, form in SCORES.items() if index.manifest.base or not form.needs_base), *TEXT_BASELINES]


def _records(index: Index) -> list[Record]:
    """Every record of the index without its vectors, in the order of the rows."""
    offsets = [int(offset) for block in index.blocks() for offset in block.record]
    return sorted(index.fetch(offsets), key=lambda record: (record.row, record.turn))


def _row_labels(records: Sequence[Record], column: str) -> dict[int, str | None]:
    """row -> its label as text, None where the row has none. Raises InputError when no row has the column."""
    if not any(column in record.metadata for record in records):
        names = sorted({name for record in records for name in record.metadata})
        raise InputError(
            f"No row of the index has a column {column!r}.",
            f"Columns beside the text: {', '.join(names) or 'none'}.",
            did_you_mean(column, names, "Label the training rows, and index them again.", option="--label-column"),
        )
    return {record.row: _text(record.metadata.get(column)) for record in records}


def _text(value: Json) -> str | None:
    """A label as text, so that 1, 1.0 and "1" are the same in two files, and true, "true" and "True"; None for none."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    return text.lower() if text in ("True", "False") else text


def _label(query: Query, column: str) -> str | None:
    return _text(query.metadata.get(column))


def _countable(
    queries: Sequence[Query], labels: Mapping[int, str | None], column: str
) -> tuple[list[int], list[SkippedQuery]]:
    """Numbers of the queries that some rows, but not all, answer for; the others with the reason why not."""
    values = list(labels.values())
    kept, skipped = [], []
    for number, query in enumerate(queries):
        label = _label(query, column)
        n = values.count(label) if label is not None else 0
        if label is None:
            skipped.append(SkippedQuery(number + 1, query.prompt, f"Query {number + 1} has no {column!r}."))
        elif n in (0, len(values)):
            found = "No row" if n == 0 else f"Every one of {n} rows"
            skipped.append(SkippedQuery(number + 1, query.prompt, f"{found} of the index has the {column} {label!r}."))
        else:
            kept.append(number)
    return kept, skipped


def _answered(
    tracer: Tracer, queries: Sequence[Query], kept: Sequence[int], skipped: Sequence[SkippedQuery]
) -> tuple[dict[int, Query], list[SkippedQuery]]:
    """Query number -> the query with its response; a missing one is the model's own. An empty one is left out."""
    silent = [number for number in kept if queries[number].response is None]
    prompts = [queries[number].prompt_ids(tracer.encoder) for number in silent]
    answers = generate(tracer.loaded, prompts, max_new_tokens=ANSWER_TOKENS) if prompts else []
    by_number = dict(zip(silent, answers, strict=True))
    said: dict[int, Query] = {}
    missing = list(skipped)
    for number in kept:
        query = queries[number]
        if number in by_number:
            query = replace(query, response=by_number[number].text, complete=by_number[number].complete)
        if (query.response or "").strip():
            said[number] = query
        else:
            missing.append(SkippedQuery(number + 1, query.prompt, f"The model answers nothing to query {number + 1}."))
    return said, missing


def _ids(query: Query) -> list[str]:
    """The id of a row that is the query with its response, as a conversation and as one text."""
    answer = query.answer or Turn(ASSISTANT, query.response or "")
    rows = [Example((*query.turns, answer), template_inputs=query.template_inputs)]
    if query.turns[-1].role == TEXT:
        rows.append(Example((*query.turns[:-1], Turn(TEXT, query.turns[-1].content + answer.content))))
    return [row.id for row in rows]


def _scorer(
    tracer: Tracer, asked: Sequence[EncodedTurn], records: Sequence[Record], rows: np.ndarray, seed: int
) -> Callable[[str], Float[np.ndarray, "n_query n_train"]]:
    """name -> scores of every row, a row by its best turn."""
    signatures = tracer.signatures(asked)
    starts = np.unique([record.row for record in records], return_index=True)[1]

    def score(name: str) -> np.ndarray:
        if name == "random-scores":
            return torch.rand(len(asked), len(rows), generator=torch.Generator().manual_seed(seed)).numpy()
        if name == "bm25-full":
            texts = [f"{record.prompt} {record.response}" for record in records]
            by_record = bm25_scores([f"{turn.prompt} {turn.response}" for turn in asked], texts).numpy()
            return np.maximum.reduceat(by_record, starts, axis=1)
        form = score_form(name)
        roles = default_layers(form, tracer.index.manifest)
        return score_matrix(tracer.index, signatures, method=form, roles=roles).scores

    return score


def _evaluated(
    name: str,
    score: Callable[[str], Float[np.ndarray, "n_query n_train"]],
    relevant: Bool[np.ndarray, "n_query n_train"],
    counted: Bool[np.ndarray, "n_query n_train"],
    k: int,
    seed: int,
) -> MethodEvaluation:
    try:
        scores = score(name)
    except InputError as error:
        return MethodEvaluation(name, None, error=str(error).replace("\n", " "))
    by_query = tuple(
        average_precision(row[ranked], marks[ranked])
        for row, marks, ranked in zip(scores, relevant, counted, strict=True)
    )
    return MethodEvaluation(name, measure(scores, relevant, counted=counted, k=k, seed=seed), by_query)
