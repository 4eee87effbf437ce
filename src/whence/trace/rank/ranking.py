"""From queries to their rankings: one scan of the index, and where words are asked about the best rows read again.

The first stage scores every row by its stored signature. Where a query has a target (a span, a wanted answer) the best
`RERANK_ROWS` rows are reranked by `whence.trace.rank.reranking`, which reads them from the model token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from whence.data import Encoder
from whence.index import AnnSearch, BlockReader, Index, Match, ScoreMatrix, ScoreRequest, held_layers, scan
from whence.model import LoadedModel, learned_fraction
from whence.scoring import SCORES, FormLayers, ScoreForm
from whence.trace.query.batch import QueryBatch
from whence.trace.query.targets import QueryTarget
from whence.trace.rank.approximate import Candidates, candidates, why_exact
from whence.trace.rank.matched_rows import encoded_rows
from whence.trace.rank.reranking import HeldRows, rerank
from whence.trace.settings import NEAR

RERANK_ROWS = 200
"""Rows of the first stage that are reranked, or k if that is more: each costs a forward pass, as indexing it did."""

VERSION = "+rerank 4"
"""Behind the version of the first stage's form. A ranking with reranking has it."""

BASELINE = SCORES["repsim"]
"""The form whose ranking is shown beside the first one's, as a confound."""


@dataclass(frozen=True, slots=True)
class RankedBatch:
    """Queries with their rankings.

    matches: the k best rows of each query, best first, after reranking where there is a target.
    scores:  of every row, for each query, by the form; baseline: by `BASELINE`. None where they were not wanted.
    blocks:  the index as it was read, for the stages behind.
    candidates: where not every row was scored, what was; `scores` are then of the candidate rows of all queries.
    exact_because: why every row was scored although fewer were asked for.
    """

    batch: QueryBatch
    form: ScoreForm
    roles: FormLayers
    blocks: BlockReader
    matches: Sequence[Sequence[Match]]
    scores: ScoreMatrix | None = None
    baseline: ScoreMatrix | None = None
    candidates: Candidates | None = None
    exact_because: str = ""

    def __len__(self) -> int:
        return len(self.batch)


def ranked(
    blocks: BlockReader,
    loaded: LoadedModel,
    encoder: Encoder,
    batch: QueryBatch,
    form: ScoreForm,
    roles: FormLayers,
    *,
    k: int,
    every_row: bool = False,
    baseline: bool = False,
    recall: float | None = None,
    search: Callable[[], AnnSearch] | None = None,
) -> RankedBatch:
    """The k best rows of each query, in one scan of the index for everything that is wanted of it.

    every_row: keep every row's score too. baseline: and every row's score by `BASELINE`.
    recall: take candidates of an approximate search in place of every row, where that can be; without a baseline.
    search: opens it.

    Raises as `whence.index.scanning.scan`; NonFiniteError, naming the row, where rows are reranked.
    """
    # One scan serves all queries, so it finds as many rows as the most demanding one wants.
    first_k = max(first_stage_rows(k, target) for target in batch.targets)
    why = ""
    if recall is not None and search is not None:
        why = why_exact(blocks.index, form, roles, blocks.where, len(batch), recall)
        if not why:
            near = NEAR if every_row else None
            found = candidates(search(), blocks.index, batch.signatures, k=first_k, recall=recall, near=near)
            if isinstance(found, Candidates):
                return _of_candidates(found, blocks, loaded, encoder, batch, form, roles, k, every_row)
            why = found
    requests = [ScoreRequest(form, roles, k=first_k, every_row=every_row)]
    layers = held_layers(BASELINE, blocks.index.manifest) if baseline else None
    if layers is not None:
        requests.append(ScoreRequest(BASELINE, layers, every_row=True))
    scored, *beside = scan(blocks, batch.signatures, requests)
    matches = _all_reranked(blocks.index, loaded, encoder, batch, scored.matches, form, k)
    other = beside[0].matrix if beside else None
    return RankedBatch(batch, form, roles, blocks, matches, scored.matrix, other, exact_because=why)


def _of_candidates(
    found: Candidates,
    blocks: BlockReader,
    loaded: LoadedModel,
    encoder: Encoder,
    batch: QueryBatch,
    form: ScoreForm,
    roles: FormLayers,
    k: int,
    every_row: bool,
) -> RankedBatch:
    matches = _all_reranked(blocks.index, loaded, encoder, batch, [one.matches for one in found.found], form, k)
    rows = found.rows
    # [n_query, n_candidate]: every query's exact score of every query's candidates; rows elsewhere have none.
    matrix = ScoreMatrix(rows, found.scores(rows)) if every_row else None
    return RankedBatch(batch, form, roles, blocks, matches, matrix, candidates=found)


def _all_reranked(
    index: Index,
    loaded: LoadedModel,
    encoder: Encoder,
    batch: QueryBatch,
    first: Sequence[Sequence[Match]],
    form: ScoreForm,
    k: int,
) -> list[list[Match]]:
    """The k best rows of each query; rows that several queries have are read once."""
    several = sum(target is not None for target in batch.targets) > 1
    held, by_fraction = HeldRows() if several else None, form.by_learned_fraction
    return [
        reranked(index, loaded, encoder, target, matches, k, by_learned_fraction=by_fraction, held=held)
        for target, matches in zip(batch.targets, first, strict=True)
    ]


def first_stage_rows(k: int, target: QueryTarget | None) -> int:
    """How many rows the first stage must find."""
    return k if target is None else max(k, RERANK_ROWS)


def reranked(
    index: Index,
    loaded: LoadedModel,
    encoder: Encoder,
    target: QueryTarget | None,
    matches: Sequence[Match],
    k: int,
    *,
    by_learned_fraction: bool = False,
    held: HeldRows | None = None,
) -> list[Match]:
    """The k best of the first stage's rows, with their new scores; ordered by (-score, row, turn).

    by_learned_fraction: whether the first stage's form weighs rows by it. held: rows that other queries read.

    Raises NonFiniteError, naming the row.
    """
    if target is None or not matches:
        return list(matches[:k])
    turns = encoded_rows(index, encoder, matches)
    layer, max_tokens = loaded.n_layers, index.manifest.max_tokens
    # Gains of the matched turns, [n_match], as the first stage weighed them.
    records = index.fetch([match.record for match in matches]) if by_learned_fraction else []
    gains = torch.tensor([record.log_likelihood_gain for record in records], dtype=torch.float64)
    found = rerank(
        loaded,
        layer,
        target,
        turns,
        torch.tensor([match.score for match in matches], dtype=torch.float64),
        # Without "m" in the index its mean over the candidates stands in: some hundred rows near the query.
        centre=index.centres.get((layer, "m")),
        learned=learned_fraction(gains) if by_learned_fraction else None,
        max_tokens=max_tokens,
        labels=lambda i: f"row {matches[i].row}",
        held=held,
        records=[match.record for match in matches],
    )
    # found [n_match] replaces the first stage's; ties go by the data's order, as in the first stage.
    rescored = [match._replace(score=score) for match, score in zip(matches, found.tolist(), strict=True)]
    return sorted(rescored, key=lambda match: (-match.score, match.row, match.turn))[:k]


__all__ = ["BASELINE", "RERANK_ROWS", "VERSION", "RankedBatch", "first_stage_rows", "ranked", "reranked"]
