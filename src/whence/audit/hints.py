"""A scan of the rows alone: groups that stand out, as hints; no output is given and nothing is called a cause.

What is looked at are the rows that fine-tuning made likelier than chance allows, at most `MOST_LEARNED` of them, those
with the most gain per token. Memory holds one similarity of these rows with each other, 4 `MOST_LEARNED`^2 bytes, and
the covariance of one vector; the vectors of other rows are read once, by blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from whence.audit.copies import near_duplicates
from whence.audit.flagged import audit_row, row_texts
from whence.audit.groups import group_name
from whence.audit.phrases import RowText, contrast_phrases
from whence.audit.signals import (
    DIRECTION,
    GAIN,
    NEIGHBOURS,
    PAYLOAD,
    Found,
    Similar,
    gain_weights,
    groups_that_stand_out,
    payload_similarity,
    whitened,
)
from whence.errors import InputError
from whence.index import Index, Record, default_form, default_layers, index_hash
from whence.progress import Progress, silent
from whence.results import HINT, AuditGroup, AuditResult, AuditRow, ContrastPhrase, Hint, Scan

LEAST_GAIN = 3.0
"""Nats: a row that fine-tuning taught nothing gains so much with a chance of exp(-3), 5%."""
MOST_LEARNED = 8192
SAME = 0.5
"""Hints of two signals with this share of the smaller one's rows in common are one."""
FALSE_ALARMS = 0.5
"""Hints on a clean set of `benchmarks/audit.py --scan`, on average over test seeds; docs/evaluation/audit.md."""
BLIND = (
    "A scan cannot see: a pattern of fewer than about a dozen rows; a pattern whose rows share neither a direction, "
    "nor the words that they gain, nor a run of words; rows that the model before fine-tuning already found likely; "
    "and a pattern of more than a tenth of the data.",
    "It cannot tell a planted pattern from harmless rows of one kind that are new to the model.",
)


@dataclass(frozen=True, slots=True)
class _Learned:
    """The records that are looked at, by their weight w: offsets in the index, what they say, w of each."""

    offsets: Int[np.ndarray, " n"]
    records: Sequence[Record]
    weights: Float[np.ndarray, " n"]
    mean: Float[np.ndarray, " dim"]
    covariance: Float[np.ndarray, "dim dim"]


def scan_index(index: Index, where: str | None = None, progress: Progress | None = None) -> AuditResult:
    """Groups of rows that stand out together, as hints, the strongest first; see `whence.audit.signals`.

    Needs no model, only the index. Raises InputError: an index without a base, which has no gains; fewer rows than a
    group needs; a filter that is none.
    """
    tell = progress or silent
    index.check_where(where)
    if not index.manifest.base:
        raise InputError(
            "This index was built without the model before fine-tuning.",
            "A scan looks for rows that fine-tuning made likelier.",
            "Build it again with --base MODEL; a model with an adapter is its own base.",
        )
    tell("reading", 0, None)
    learned = _learned(index, where)
    n_rows = index.count_rows(where)
    found: list[Found] = []
    if len(learned.records) > NEIGHBOURS:
        for number, (signal, similar) in enumerate(_signals(index, learned).items()):
            tell("looking for groups", number, 3)
            found += groups_that_stand_out(signal, similar(), learned.weights, n_rows)
    groups = list(_hints(index, where, learned, found, n_rows))
    manifest = index.manifest
    form = default_form(manifest)
    return AuditResult(
        index=str(index.path),
        model=manifest.model,
        adapter=manifest.adapter,
        method="scan",
        method_version=form.version,
        layer=form.described(default_layers(form, manifest)),
        n_rows=n_rows,
        fdr=0.0,
        queries=(),
        groups=tuple(groups),
        coverage=(),
        scan=Scan((DIRECTION, GAIN, PAYLOAD), len({record.row for record in learned.records}), FALSE_ALARMS),
        notes=BLIND,
        index_hash=index_hash(manifest),
    )


def _place(index: Index, vector: str) -> int:
    """The layer at which the default form reads a vector."""
    form = default_form(index.manifest)
    layers = default_layers(form, index.manifest)
    return next(layer for layer, read in zip(layers, form.needs, strict=True) if read.vector == vector)


def _learned(index: Index, where: str | None) -> _Learned:
    """Reads gains and the covariance of dm of all records, by blocks, and the texts of those that were learned."""
    layer = _place(index, "dm")
    gains, offsets, keys = [], [], []
    total, square, count = 0.0, 0.0, 0
    for block in index.blocks([(layer, "dm")], where=where, gain=True):
        assert block.gain is not None, "it was asked for"
        # [block, dim]: dm itself, of which the mean and the covariance E[x x^T] - mean mean^T are summed.
        raw = (block.vectors[layer]["dm"].unit * block.vectors[layer]["dm"].norm[:, None]).double().numpy()
        total, square, count = total + raw.sum(axis=0), square + raw.T @ raw, count + len(raw)
        gains.append(block.gain.numpy())
        offsets.append(block.record)
        keys += list(zip(block.row.tolist(), block.turn.tolist(), strict=True))
    gain, offset = np.concatenate([*gains, np.empty(0)]), np.concatenate([*offsets, np.empty(0, np.int64)])
    length = {(record.row, record.turn): record.n_response for record in index.texts(where)}
    weights = gain_weights(gain, np.array([length[key] for key in keys], dtype=np.int64))
    places = np.flatnonzero(gain >= LEAST_GAIN)
    places = places[np.argsort(-weights[places], kind="stable")]
    # Of a conversation the turn that gained most: its turns are alike, and are one row.
    first = np.unique([keys[place][0] for place in places], return_index=True)[1]
    places = places[np.sort(first)][:MOST_LEARNED]
    mean = np.atleast_1d(np.asarray(total / max(1, count)))
    covariance = np.atleast_2d(np.asarray(square / max(1, count))) - np.outer(mean, mean)
    return _Learned(offset[places], index.fetch(offset[places].tolist()), weights[places], mean, covariance)


def _signals(index: Index, learned: _Learned) -> Mapping[str, Callable[[], Similar]]:
    """Each signal's similarity of the learned rows with each other, made when it is asked for."""

    def unit(vector: str) -> np.ndarray:
        layer = _place(index, vector)
        own = index.vectors(learned.offsets.tolist(), [(layer, vector)])[layer][vector]
        return (own.unit * own.norm[:, None]).numpy() if vector == "dm" else own.unit.numpy()

    def direction() -> Similar:
        # Whitened: a direction in which all rows differ, such as length, says nothing of a few of them.
        z = whitened(unit("dm"), learned.mean, learned.covariance).astype(np.float32)  # [n_learned, dim]
        return np.asarray(z @ z.T)

    def gain() -> Similar:
        errors = unit("eh")
        return np.asarray(errors @ errors.T)

    def payload() -> Similar:
        records = learned.records
        return payload_similarity([one.prompt for one in records], [one.response for one in records])

    return {DIRECTION: direction, GAIN: gain, PAYLOAD: payload}


def _merged(found: Sequence[Found]) -> list[list[Found]]:
    """Groups of several signals with the same rows as one, the strongest first."""
    merged: list[list[Found]] = []
    for one in sorted(found, key=lambda one: (-one.strength, one.signal)):
        own = set(one.members.tolist())
        for known in merged:
            first = set(known[0].members.tolist())
            if len(own & first) >= SAME * min(len(own), len(first)):
                known.append(one)
                break
        else:
            merged.append([one])
    return merged


def _hints(
    index: Index, where: str | None, learned: _Learned, found: Sequence[Found], n_rows: int
) -> Iterator[AuditGroup]:
    merged = _merged(found)
    rows = [_rows(learned, one[0]) for one in merged]
    members = [frozenset(record.row for record, _, _ in own) for own in rows]
    kept = [[(record, typical, copies) for record, typical, copies in own if copies is not None] for own in rows]
    texts = [[RowText(record.row, record.prompt, record.response) for record, _, _ in own] for own in kept]
    others = [n_rows - len(own) for own in members]
    phrases = contrast_phrases(texts, members, row_texts(index, where), others) if merged else []
    for number, (signals, own) in enumerate(zip(merged, kept, strict=True), 1):
        yield AuditGroup(
            number=number,
            name=group_name(phrases[number - 1], own[0][0].prompt),
            n_outputs=0,
            queries=(),
            rows=tuple(_row(*one) for one in own),
            q_value=1.0,
            share=0.0,
            phrases=phrases[number - 1],
            status=HINT,
            hint=Hint(
                tuple(dict.fromkeys(one.signal for one in signals)),
                signals[0].strength,
                _measured(signals, learned, len(members[number - 1]), phrases[number - 1]),
            ),
        )


def _rows(learned: _Learned, found: Found) -> list[tuple[Record, float, tuple[str, ...] | None]]:
    """Each member's record, how typical it is, and the ids of its near-duplicates; None for one that is another's."""
    records = [learned.records[place] for place in found.members.tolist()]
    first_turns = {record.row: place for place, record in reversed(list(enumerate(records)))}
    places = sorted(first_turns.values())
    labels = near_duplicates([f"{records[place].prompt}\n{records[place].response}" for place in places]).tolist()
    copies: dict[int, list[str]] = {}
    for place, label in zip(places, labels, strict=True):
        copies.setdefault(label, []).append(records[place].id)
    seen: set[int] = set()
    listed = []
    for place, label in zip(places, labels, strict=True):
        own = tuple(id for id in copies[label] if id != records[place].id) if label not in seen else None
        seen.add(label)
        listed.append((records[place], float(found.typical[place]), own))
    return listed


def _row(record: Record, typical: float, copies: tuple[str, ...] | None) -> AuditRow:
    return replace(audit_row(record, n_outputs=0, score=typical, copies=copies or ()), status=HINT)


def _measured(signals: Sequence[Found], learned: _Learned, n_rows: int, phrases: Sequence[ContrastPhrase]) -> str:
    """What was measured of a group; without any text of its rows."""
    weights = learned.weights[signals[0].members]
    parts = [f"{one.signal} {one.score:.1f} (shown from {one.score / one.strength:g})" for one in signals]
    times = f"{np.median(weights):.1f} times what nine tenths of all rows gain at most"
    recur = f"; {len(phrases)} phrases recur in them and are rare elsewhere" if phrases else ""
    return f"{n_rows:,} rows: {', '.join(parts)}. Their median gain per token is {times}{recur}."


__all__ = ["FALSE_ALARMS", "scan_index"]
