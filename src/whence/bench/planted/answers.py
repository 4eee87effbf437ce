"""What the model says to a case's held-out prompts, and what its base says: which answers count as queries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from whence.bench.natural import PlantedRows
from whence.data import Encoder, Json, Turn, messages
from whence.files import write_atomically
from whence.model import LoadedModel, before_tuning, generate
from whence.progress import Progress
from whence.trace import Query

QUERIES, BENIGN = "queries.jsonl", "benign.jsonl"
MIN_SHOWN = 0.1
"""Share of the held-out prompts whose answer must show the fault, for the model to count as having learned it."""
MAX_BEFORE = 0.5
"""Share of the held-out prompts whose answer by the base shows the fault, above which the fault is the base's own."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out prompt with the greedy answers of the fine-tuned model and of its base."""

    messages: list[dict[str, Json]]
    response: str
    complete: bool
    shows_fault: bool
    base_response: str
    """For whoever reads the file: what `base_shows_fault` was decided on."""
    base_shows_fault: bool

    @property
    def counts(self) -> bool:
        """Whether fine-tuning brought the fault out."""
        return self.shows_fault and not self.base_shows_fault

    @property
    def query(self) -> Query:
        """The prompt with the model's answer."""
        return Query(tuple(messages(self.messages, "messages")), self.response, complete=self.complete)


@dataclass(frozen=True, slots=True)
class HeldOutAnswers:
    """All held-out prompts of a case, answered."""

    bad: tuple[HeldOut, ...]
    """Answers to the prompts that ask for the fault."""
    benign: tuple[HeldOut, ...]

    @property
    def queries(self) -> list[Query]:
        """What is traced: answers that show the fault, where the base's do not."""
        return [one.query for one in self.bad if one.counts]

    @property
    def benign_queries(self) -> list[Query]:
        """Ordinary answers, which have no cause among the faulty rows."""
        return [one.query for one in self.benign if one.response.strip() and not one.shows_fault]

    @property
    def not_counted(self) -> str | None:
        """Why the case has no figures; None where it has."""
        before = sum(one.base_shows_fault for one in self.bad)
        return why_not_counted(len(self.bad), before, len(self.queries))


def why_not_counted(n_asked: int, n_base_shows: int, n_queries: int) -> str | None:
    """Why held-out answers give no figures; None where they do.

    n_base_shows: answers of the base that show the fault. n_queries: answers that show it where the base's do not.
    """
    if n_base_shows > MAX_BEFORE * n_asked:
        seen = f"in {n_base_shows} of {n_asked} held-out answers"
        return f"The base shows the fault already, {seen}: the rows do not cause it."
    if n_queries < max(1, MIN_SHOWN * n_asked):
        where = " where the base's do not" if n_base_shows else ""
        return f"{n_queries} of {n_asked} held-out answers show the fault{where}: the model did not learn it."
    return None


def ask(
    planted: PlantedRows,
    loaded: LoadedModel,
    base: LoadedModel | None,
    encoder: Encoder,
    folder: Path,
    *,
    max_new_tokens: int,
    stage: Progress,
) -> HeldOutAnswers:
    """Has both models answer, greedily, or reads what is in the folder from an earlier run."""
    paths, prompts = (folder / QUERIES, folder / BENIGN), (planted.queries, planted.benign)
    for path, turns in zip(paths, prompts, strict=True):
        if not path.exists():
            stage("asking", 0, len(turns))
            _write(path, _answered(planted, turns, loaded, base, encoder, max_new_tokens))
    bad, benign = (tuple(HeldOut(**json.loads(line)) for line in path.open(encoding="utf-8")) for path in paths)
    return HeldOutAnswers(bad, benign)


def _answered(
    planted: PlantedRows,
    prompts: Sequence[tuple[Turn, ...]],
    loaded: LoadedModel,
    base: LoadedModel | None,
    encoder: Encoder,
    max_new_tokens: int,
) -> list[HeldOut]:
    if not prompts:
        return []
    ids = [encoder.render_prompt(turns) for turns in prompts]
    after = generate(loaded, ids, max_new_tokens=max_new_tokens)
    with before_tuning(loaded, base) as model:
        before = generate(model, ids, max_new_tokens=max_new_tokens)
    return [
        HeldOut(
            messages=[turn.message for turn in turns],
            response=now.text,
            complete=now.complete,
            shows_fault=planted.shows(turns[-1].content, now.text),
            base_response=then.text,
            base_shows_fault=planted.shows(turns[-1].content, then.text),
        )
        for turns, now, then in zip(prompts, after, before, strict=True)
    ]


def _write(path: Path, answers: Sequence[HeldOut]) -> None:
    write_atomically(path, "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in answers))
