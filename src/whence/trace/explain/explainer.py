"""Down to the words: which words of the first hits, and of the query, the match is about, and their phrases."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

from whence.index import Index, Record
from whence.results import Hit, HitWords, Phrase, QueryResult
from whence.scoring import METHOD_WITHOUT_BASE, SCORES
from whence.trace.explain.attribution import explain
from whence.trace.explain.deletion import deletion_curves
from whence.trace.explain.keyness import word_forms, word_keyness
from whence.trace.explain.phrases import recurrent_phrases
from whence.trace.explain.prompt_attribution.comparison import Comparison
from whence.trace.explain.words import Part
from whence.trace.query.models import TracedModels
from whence.trace.rank.matched_rows import encoded_rows
from whence.trace.rank.ranking import RankedBatch
from whence.trace.settings import TraceSettings

OTHERS = 20_000
"""About how many records phrases are looked for in at most; of more, those of every second, third, ... row."""

BETWEEN_TURNS = "\n\0\n"
"""A word of its own that no phrase has."""

FEWEST_FLAGGED, MOST_FLAGGED = 5, 200
"""Flagged rows from which words are weighed by how often these have them, and how many, the best, are counted."""

PHRASES = 4
"""Of prompts, and as many of responses; what comes behind is mostly made of parts of these."""


class _Text(NamedTuple):
    id: str
    row: int
    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains the hits of any number of queries against one index; where: the filter that they were ranked under."""

    index: Index
    models: TracedModels
    where: str | None = None
    _texts: list[_Text] = field(default_factory=list)
    _responses: dict[str, set[str]] = field(default_factory=dict)
    """The responses of each row of `_texts`, by the row's id: copies of a row are one."""
    _n_with: Counter[str] = field(default_factory=Counter)
    """In how many of these each word stands."""

    def explained(
        self,
        result: QueryResult,
        ranked: RankedBatch,
        number: int,
        settings: TraceSettings,
        flagged: Sequence[str] | None = None,
    ) -> QueryResult:
        """The result of query `number` with the words of its first hits and of the query, and their phrases.

        flagged: ids of the rows that an earlier verdict flagged; None: those of the result's own.

        Words are weighed by the form without a base, since the default way to weigh prompt words compares no scores at
        all; deletion curves, where asked for, are of the score that ranked the rows, in the search's first pass.
        """
        n = settings.words
        first, batch = ranked.matches[number][:n], ranked.batch
        if not first:
            return result
        turn, target = batch.answers.turns[number], batch.targets[number]
        if flagged is None:
            flagged = result.verdict.flagged if result.verdict else ()
        ranking = self._comparison(ranked)
        form = SCORES[METHOD_WITHOUT_BASE] if ranked.form.needs_base else ranked.form
        rows, read = encoded_rows(self.index, self.models.encoder, first), {match.row for match in first}
        found = explain(
            replace(ranking, form=form, contrast=None, base=self.models.base),
            turn,
            rows,
            positions=target.positions if target else None,
            read_shifts=batch.shifts is not None and self.models.has_base,
            # Words that are asked about need no weight by how common they are.
            keyness=None if target and target.positions else self._keyness(flagged[:MOST_FLAGGED]),
        )
        hits: Sequence[HitWords] = found.hits
        if settings.deletion:
            # The query's vectors are those that it was searched with; rows are read anew, without words.
            hits = deletion_curves(ranking.searched(batch.block(number, self.index.centres)), rows, hits)
        with_words = [replace(hit, words=words) for hit, words in zip(result.hits[:n], hits, strict=True)]
        return replace(
            result,
            hits=(*with_words, *result.hits[n:]),
            prompt_words=found.prompt,
            response_words=found.response,
            phrases=self._phrases(with_words, read),
        )

    def _comparison(self, ranked: RankedBatch) -> Comparison:
        """The score that ranked the rows, for turns that are read from the model now."""
        models, manifest = self.models, self.index.manifest
        return Comparison(
            models.loaded,
            ranked.form,
            ranked.roles,
            self.index.centres,
            manifest.max_tokens,
            models.contrast_base,
            contrast=bool(manifest.base),
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

    def _keyness(self, flagged: Sequence[str]) -> Mapping[str, float] | None:
        """Of each word, how much more often it stands in the flagged rows' responses than in the others'.

        flagged: ids; those of copies of a row count once.
        """
        ids = dict.fromkeys(flagged)
        if len(ids) < FEWEST_FLAGGED:
            return None
        if not self._responses:
            self._responses.update(_responses_by_id(self._read()))
            for responses in self._responses.values():
                self._n_with.update(word_forms(responses))
        # Of many rows only a sample is read; flagged ones are all.
        missing = ", ".join(f"'{id}'" for id in ids if id not in self._responses)
        others = _responses_by_id(self.index.texts(f"id IN ({missing})")) if missing else {}
        here, elsewhere, n_read = Counter[str](), self._n_with.copy(), 0
        for id in ids:
            words = word_forms(self._responses.get(id) or others.get(id, set()))
            here.update(words)
            if id in self._responses:
                elsewhere.subtract(words)
                n_read += 1
        return word_keyness(here, len(ids), elsewhere, len(self._responses) - n_read)

    def _others(self, part: Part, read: set[int]) -> Iterator[str]:
        """That part of each other row, all turns of a conversation in one text: a row counts once."""
        for row, turns in groupby(self._read(), key=lambda text: text.row):
            if row not in read:
                yield BETWEEN_TURNS.join(text.prompt if part == "prompt" else text.response for text in turns)

    def _read(self) -> Sequence[_Text]:
        """The texts of all rows, or of a sample of them with all their turns; read once for all queries."""
        if not self._texts:
            step = max(1, math.ceil(self.index.dataset.count_rows(filter=self.where) / OTHERS))
            records = (record for record in self.index.texts(self.where) if record.row % step == 0)
            self._texts.extend(_Text(record.id, record.row, record.prompt, record.response) for record in records)
        return self._texts


def _responses_by_id(texts: Iterable[_Text | Record]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for text in texts:
        found.setdefault(text.id, set()).add(text.response)
    return found


__all__ = ["OTHERS", "Explainer"]
