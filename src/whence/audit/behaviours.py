"""A behaviour that no single output shows: which rows and sources push from good answers towards bad ones.

A bias is spread over many rows, none of which looks like any one output. What bad answers share and good answers to
the same prompts lack is a direction: the difference of the two groups' mean signatures. A score without a second pass
is linear in the query's signature, so how far row t pushes along it is a difference of mean scores s[i, t],

    D[t] = mean over bad i of s[i, t] - mean over good i of s[i, t]

and each row's own spread over the outputs says how large it is without a direction: with w[i] = 1 / n_bad for bad and
-1 / n_good for good outputs,

    D[t] = sum_i w[i] s[i, t],    z[t] = D[t] / (sd[t] + s0),    sd[t]: of D[t] over permutations of the labels

s0 is the 90th percentile of sd over all rows (Tusher, Tibshirani and Chu 2001, who call it the exchangeability factor):
rows that score nearly the same for all outputs have a tiny sd, and a D just as tiny would flag them. It makes every z
smaller, so the normal tail of z is conservative.

The null is that the labels are exchangeable. Where every bad output has a good one with the same prompt, labels are
exchanged within a prompt alone, so that prompts of other topics in the two files explain nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from whence.audit.blocks import BLOCK, VERSION, WORK
from whence.audit.outputs import Output, content_of
from whence.audit.scores_folder import scores_folder
from whence.audit.sources import ColumnValues
from whence.data import Json
from whence.errors import InputError
from whence.files import write_atomically
from whence.index import BlockReader, ScoreRequest, default_form, default_layers, scan
from whence.progress import Progress
from whence.results import SourcePush, SourcePushes
from whence.scoring import score_form
from whence.trace import Tracer, TraceSettings

PERMUTATIONS = 1000
LEAST_OUTPUTS = 8
"""Of either kind: 1 / (16 choose 8) is the least p-value that eight and eight allow, well below any correction here."""
ROWS_AT_ONCE = 4096
LEAST_SPREAD = 0.9
"""Quantile of the rows' sd that is added to each."""


@dataclass(frozen=True, slots=True)
class Pushes:
    """How far each row pushes: rows (numbers in the data), z and D of each, and Benjamini-Hochberg q of z's upper tail.

    n_above[t]: bad outputs whose score for row t is above the mean score of all good ones. paired: labels were
    exchanged within prompts.
    """

    rows: Int[np.ndarray, " n_train"]
    z: Float[np.ndarray, " n_train"]
    push: Float[np.ndarray, " n_train"]
    q: Float[np.ndarray, " n_train"]
    n_above: Int[np.ndarray, " n_train"]
    sources: tuple[SourcePushes, ...]
    paired: bool
    method: str
    method_version: str
    layer: str


def pushes(
    tracer: Tracer,
    bad: Sequence[Output],
    good: Sequence[Output],
    settings: TraceSettings,
    columns: Sequence[ColumnValues],
    *,
    work: Path | None,
    progress: Progress,
    block: int = BLOCK,
) -> Pushes:
    """Rows and sources by how far they push from good answers to bad ones.

    Every row's score for every output is a file in the work folder while this runs, so memory holds that of one block,
    and what was cut goes on from there.

    Raises InputError: too few outputs of either kind, or one that is in both.
    """
    check(bad, good)
    outputs = [*bad, *good]
    signs = np.array([1.0] * len(bad) + [-1.0] * len(good))
    strata, paired = strata_of(bad, good)
    with output_scores(tracer, outputs, settings, work, progress, block) as (rows, table, described):
        spread, push, above = (np.empty(len(rows)) for _ in range(3))
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            scores = np.asarray(table[:, rows[part]], dtype=np.float64)  # [n_output, n_part]
            push[part], spread[part] = difference(scores, signs, strata)
            above[part] = (scores[signs > 0] > scores[signs < 0].mean(axis=0)).sum(axis=0)
        sources = tuple(source_pushes(column, rows, table, signs, strata, seed=settings.seed) for column in columns)
    z = moderated(push, spread)
    return Pushes(rows, z, push, _q_values(z), above.astype(np.int64), sources, paired, *described)


def check(bad: Sequence[Output], good: Sequence[Output]) -> None:
    """Raises InputError for too few outputs of either kind, and for one that is in both."""
    for outputs, name in ((bad, "bad"), (good, "good")):
        if len(outputs) < LEAST_OUTPUTS:
            raise InputError(
                f"There are {len(outputs)} different {name} outputs.",
                f"A behaviour is the difference of two groups, of at least {LEAST_OUTPUTS} outputs each.",
                "Give more, best of all the same prompts answered with and without the behaviour.",
            )
    # Whether it was stopped at a limit makes it no other behaviour.
    of_good = {content_of(replace(output.query, complete=True)) for output in good}
    both = [output.query.prompt for output in bad if content_of(replace(output.query, complete=True)) in of_good]
    if both:
        prompt = min(both)[:80]
        raise InputError(
            f"{len(both)} outputs are in both files, the first to {prompt!r}.",
            "An output shows the behaviour or does not.",
            "Leave each in one of them.",
        )


def strata_of(bad: Sequence[Output], good: Sequence[Output]) -> tuple[Int[np.ndarray, " n_output"], bool]:
    """Within which outputs labels may be exchanged: those of one prompt, where each bad one has a good one; or all."""
    prompts = [output.query.turns for output in (*bad, *good)]
    answered = {output.query.turns for output in good}
    if not all(output.query.turns in answered for output in bad):
        return np.zeros(len(prompts), dtype=np.int64), False
    known = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    return np.array([known[prompt] for prompt in prompts]), True


def weights_of(
    signs: Float[np.ndarray, " n_output"], strata: Int[np.ndarray, " n_output"]
) -> Float[np.ndarray, " n_output"]:
    """w[i]: the mean over strata of (mean over its bad - mean over its good outputs); strata of one label count not."""
    found = np.zeros(len(signs))
    for members in _members(strata):
        n_bad, n_good = (signs[members] > 0).sum(), (signs[members] < 0).sum()
        if n_bad and n_good:
            found[members] = np.where(signs[members] > 0, 1 / n_bad, -1 / n_good)
    used = len({strata[i] for i in np.flatnonzero(found)})
    return found / max(1, used)


def difference(
    scores: Float[np.ndarray, "n_output n"], signs: Float[np.ndarray, " n_output"], strata: Int[np.ndarray, " n_output"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """D of each column, and its exact standard deviation over permutations of the labels within strata.

    Within a stratum of n outputs, for weights w that sum to 0,

        Var sum_i w[i] s[pi(i)] = sum_i w[i]^2 sum_i (s[i] - mean s)^2 / (n - 1)
    """
    weights = weights_of(signs, strata)
    variance = np.zeros(scores.shape[1])
    for members in _members(strata):
        if len(members) > 1 and weights[members].any():
            centred = scores[members] - scores[members].mean(axis=0)
            variance += (weights[members] ** 2).sum() * (centred**2).sum(axis=0) / (len(members) - 1)
    return weights @ scores, np.sqrt(variance)


def moderated(push: Float[np.ndarray, " n"], spread: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """z = D / (sd + s0) of each row; see above. 0 where nothing differs."""
    if not len(push):
        return push
    least = float(np.quantile(spread, LEAST_SPREAD))
    return np.asarray(np.divide(push, spread + least, out=np.zeros_like(push), where=spread + least > 0))


def _members(strata: Int[np.ndarray, " n_output"]) -> list[Int[np.ndarray, " n"]]:
    places: dict[int, list[int]] = defaultdict(list)
    for place, stratum in enumerate(strata.tolist()):
        places[stratum].append(place)
    return [np.array(members) for members in places.values()]


def _q_values(z: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    from scipy.stats import false_discovery_control, norm

    return np.asarray(false_discovery_control(norm.sf(z)))


def source_pushes(
    column: ColumnValues,
    rows: Int[np.ndarray, " n_train"],
    table: np.ndarray,
    signs: Float[np.ndarray, " n_output"],
    strata: Int[np.ndarray, " n_output"],
    *,
    seed: int,
) -> SourcePushes:
    """Each source's mean score over that of all other rows, and its difference between bad and good outputs.

    p compares the standardised difference with the highest of all sources under permuted labels (Westfall and Young),
    so it is corrected for their number.
    """
    values = sorted(set(column.of_row.values()))
    place = {value: s for s, value in enumerate(values)}
    own = np.array([place[column.of_row[row]] for row in rows.tolist()])
    counts = np.bincount(own, minlength=len(values)).astype(float)
    sums = np.zeros((len(signs), len(values)))
    for i in range(len(signs)):
        sums[i] = np.bincount(own, weights=np.asarray(table[i, rows], dtype=np.float64), minlength=len(values))
    others = np.maximum(counts.sum() - counts, 1)
    mean = sums / counts - (sums.sum(axis=1, keepdims=True) - sums) / others  # [n_output, n_source]
    push, spread = difference(mean, signs, strata)
    spread = np.maximum(spread, 1e-12)
    drawn = permuted(mean, signs, strata, seed=seed) / spread  # [n_permutation, n_source]
    z = push / spread
    p = (1 + (drawn.max(axis=1)[:, None] >= z - 1e-9).sum(axis=0)) / (1 + len(drawn))
    order = sorted(range(len(values)), key=lambda s: (-z[s], values[s]))
    total = counts.sum()
    return SourcePushes(
        column.name,
        tuple(
            SourcePush(values[s], int(counts[s]), float(counts[s] / total), float(push[s]), float(z[s]), float(p[s]))
            for s in order
        ),
    )


def permuted(
    scores: Float[np.ndarray, "n_output n"],
    signs: Float[np.ndarray, " n_output"],
    strata: Int[np.ndarray, " n_output"],
    *,
    seed: int,
) -> Float[np.ndarray, "n_permutation n"]:
    """D of each column under random labels, exchanged within strata."""
    rng = np.random.default_rng(seed)
    weights, members = weights_of(signs, strata), _members(strata)
    drawn = np.tile(weights, (PERMUTATIONS, 1))
    for k in range(PERMUTATIONS):
        for own in members:
            drawn[k, own] = weights[rng.permutation(own)]
    return np.asarray(drawn @ scores)


@contextmanager
def output_scores(
    tracer: Tracer,
    outputs: Sequence[Output],
    settings: TraceSettings,
    work: Path | None,
    progress: Progress,
    block: int = BLOCK,
) -> Iterator[tuple[Int[np.ndarray, " n_train"], np.ndarray, tuple[str, str, str]]]:
    """The rows, the file of all scores [n_output, n_rows of the data], and what scored them.

    The file and the number of its finished blocks stay in the folder when this is cut; see `scores_folder`, whose
    errors it raises.
    """
    manifest = tracer.index.manifest
    form = score_form(settings.method) if settings.method else default_form(manifest, settings.layer)
    layers = default_layers(form, manifest)
    # Linear in the query, as the difference of means needs it: without the pass that asks the best rows again.
    linear = replace(form, expand=None)
    asked: Json = {
        "version": VERSION,
        "index": manifest.identity(),
        "outputs": [content_of(output.query) for output in outputs],
        "difference": [form.name, form.version, form.described(layers), settings.where, block],
    }
    with scores_folder(work, tracer.index.beside / WORK, asked) as folder:
        finished, known, file = folder / "finished", folder / "rows.npy", folder / "scores"
        starts, shape = range(0, len(outputs), block), (len(outputs), manifest.data.n_rows)
        is_whole = known.is_file() and file.is_file() and file.stat().st_size == 4 * shape[0] * shape[1]
        n_done = _n_finished(finished, len(starts)) if is_whole else 0
        reader = BlockReader(tracer.index, settings.where)
        table = np.memmap(file, np.float32, "r+" if n_done else "w+", shape=shape)
        for number, start in enumerate(starts):
            progress("scoring", start, len(outputs))
            if number < n_done:
                continue
            piece = outputs[start : start + block]
            queries = tracer.as_rows([output.query for output in piece])
            answers = tracer.answer(queries, settings, first=start)
            signatures = tracer.signatures(answers.turns)
            (scored,) = scan(reader, signatures, [ScoreRequest(linear, layers, every_row=True)])
            assert scored.matrix is not None, "every row was asked for"
            table[start : start + len(piece), scored.matrix.rows] = scored.matrix.scores
            table.flush()
            np.save(known, scored.matrix.rows)
            write_atomically(finished, str(number + 1))
        yield np.load(known), table, (form.name, f"{form.version}+difference", form.described(layers))
        del table


def _n_finished(path: Path, n_blocks: int) -> int:
    """The number of finished blocks that the file says; 0 where it says none, or none that can be."""
    try:
        number = int(path.read_text("utf-8"))
    except (OSError, ValueError):
        return 0
    return number if 0 <= number <= n_blocks else 0


__all__ = [
    "LEAST_OUTPUTS",
    "Pushes",
    "check",
    "difference",
    "moderated",
    "output_scores",
    "permuted",
    "pushes",
    "source_pushes",
    "strata_of",
    "weights_of",
]
