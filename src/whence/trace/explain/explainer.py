"""Down to the words: which words of the first hits, and of the query, the match is about, and their phrases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from whence.data import EncodedTurn, Encoder
from whence.index import Index, Match
from whence.model import LoadedModel, TokenShift
from whence.results import Hit, Phrase, QueryResult
from whence.scoring import SCORES, WITHOUT_BASE, FormLayers, ScoreForm
from whence.trace.explain.attribution import explain
from whence.trace.explain.deletion import removals
from whence.trace.explain.phrases import recurrent_phrases
from whence.trace.explain.prompt_attribution.comparison import Comparison
from whence.trace.explain.words import Part
from whence.trace.rank.matched_rows import encoded_rows

OTHERS = 20_000
"""Most other records that phrases are looked for in; of more, every second, third, ... is read."""

PHRASES = 4
"""Of prompts, and as many of responses; what comes behind is mostly made of parts of these."""


class _Text(NamedTuple):
    row: int
    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains hits of one form on one index, for any number of queries.

    form:  that of the ranking. Words are weighed by the one without a base, as the default way to weigh prompt words
           compares no scores at all; what the score hangs on is read from this one, in the search's first pass.
    where: the filter that the ranking was made under.
    base:  the model before fine-tuning, for a form that contrasts with it; None: `loaded` with its adapter turned off.
    changes: what fine-tuning changed at the response tokens of each turn, or None without a base.
    """

    index: Index
    loaded: LoadedModel
    encoder: Encoder
    form: ScoreForm
    roles: FormLayers
    where: str | None = None
    base: LoadedModel | None = None
    changes: Callable[[Sequence[EncodedTurn]], Sequence[TokenShift] | None] = lambda turns: None
    _texts: list[_Text] = field(default_factory=list)

    def explained(
        self,
        result: QueryResult,
        turn: EncodedTurn,
        matches: Sequence[Match],
        n: int,
        positions: Sequence[int] | None = None,
    ) -> QueryResult:
        """The result with the words of its first n hits and of the query, and the phrases that recur in those hits.

        positions: response tokens of the query that are asked about, from 0; None: all.
        """
        first = matches[:n]
        if not first:
            return result
        manifest = self.index.manifest
        form = SCORES[WITHOUT_BASE] if self.form.needs_base else self.form
        ranking = Comparison(self.loaded, self.form, self.roles, self.index.centres, manifest.max_tokens, self.base)
        rows, read = encoded_rows(self.index, self.encoder, first), {match.row for match in first}
        comparison = replace(ranking, form=form)
        found = explain(comparison, turn, rows, positions=positions, changes=self.changes([turn, *rows]))
        hits = removals(ranking.searched(turn), rows, found.hits)
        with_words = [replace(hit, words=words) for hit, words in zip(result.hits[:n], hits, strict=True)]
        return replace(
            result,
            hits=(*with_words, *result.hits[n:]),
            prompt_words=found.prompt,
            response_words=found.response,
            phrases=self._phrases(with_words, read),
        )

    def _phrases(self, hits: Sequence[Hit], read: set[int]) -> tuple[Phrase, ...]:
        """Phrases of both parts, those with the most rows and the highest lift first."""
        prompts = [(hit.prompt, hit.words.prompt) for hit in hits if hit.words]
        responses = [(hit.response, hit.words.response) for hit in hits if hit.words]
        found = [
            *recurrent_phrases("prompt", prompts, self._others("prompt", read), limit=PHRASES),
            *recurrent_phrases("response", responses, self._others("response", read), limit=PHRASES),
        ]
        return tuple(sorted(found, key=lambda phrase: -phrase.n_rows * math.log(phrase.lift)))

    def _others(self, part: Part, read: set[int]) -> Iterator[str]:
        if not self._texts:
            step = max(1, math.ceil(self.index.dataset.count_rows(filter=self.where) / OTHERS))
            records = islice(self.index.texts(self.where), 0, None, step)
            self._texts.extend(_Text(record.row, record.prompt, record.response) for record in records)
        for text in self._texts:
            if text.row not in read:
                yield text.prompt if part == "prompt" else text.response


__all__ = ["OTHERS", "Explainer"]
