"""`whence confirm`: trains again without the flagged rows, and in controls without others, and compares.

OUT/
  confirmation.json   the result (docs/confirm.md)
  runs/               a model or adapter for each arm and seed, named by a hash of what decided it
  answers/            what each of them answered
  data/               the data of each arm, where the user's own trainer reads them
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from whence.confirmation.arms import CONTROLS, Arm, bm25_ranking, choose_arms, draw_held_out, repsim_ranking
from whence.confirmation.as_trained import training_base
from whence.confirmation.foretelling import PerAnswer, base_log_probs, foretold_share, measured_share
from whence.confirmation.recipe import data_rows, make_recipe
from whence.confirmation.result import (
    ALL,
    ARM_LABELS,
    FEWEST_PROMPTS,
    FLAGGED,
    ArmResult,
    Confirmation,
    SeedResult,
    judged,
)
from whence.confirmation.runs import RunAnswers, RunQuestions, check_some_left, check_trainer, encoded_rows, run_arm
from whence.data import EncodedTurn, Example
from whence.errors import InputError
from whence.index import Index
from whence.metrics import rate
from whence.model import generate
from whence.progress import Progress, silent
from whence.results import SelectedRows
from whence.trace import Query, Tracer
from whence.train import FinetuneSettings

RESULT = "confirmation.json"
MATCHES_TOO_MUCH = 0.5
"""Share of clean rows' own responses from which on a matcher is refused: it does not tell the behaviour apart."""
MIN_DROP = 0.5


@dataclass(frozen=True, slots=True)
class _Question:
    """The behaviour: queries that show it, other prompts that should, and how an answer shows it."""

    queries: tuple[Query, ...]
    paraphrases: tuple[Query, ...]
    pattern: re.Pattern[str]
    encoded: tuple[EncodedTurn, ...] = field(default=(), repr=False)
    """The queries with their responses, the model's own where none was given."""
    answered: tuple[Query, ...] = ()
    """The same queries, each with that response."""

    @property
    def prompts(self) -> tuple[Query, ...]:
        return (*self.queries, *self.paraphrases)

    def shown(self, answer: str) -> bool:
        return self.pattern.search(answer) is not None


def confirm(
    index: str | Path | Index | Tracer,
    queries: Sequence[Query],
    out: str | Path,
    *,
    match: str,
    removed: SelectedRows | Sequence[str],
    base: str | Path | None = None,
    settings: FinetuneSettings | None = None,
    seeds: int = 1,
    controls: Sequence[str] = CONTROLS,
    paraphrases: Sequence[Query] = (),
    held_out: Sequence[Example] | None = None,
    trainer: str | None = None,
    min_drop: float = MIN_DROP,
    max_new_tokens: int = 128,
    progress: Progress | None = None,
) -> Confirmation:
    """Retrains in several arms and says whether the rows `removed` are the cause of what `match` finds.

    index:    of the model that misbehaves. Its data are read again, and must be the same.
    queries:  at least four prompts that show it: with fewer no rows can be confirmed.
    removed:  the selected rows (see `whence.results.selection`), or their ids alone.
    match:    a regular expression looked for anywhere in an answer, with . for line ends too.
    base:     folder or hub name of the model before the fine-tune. None takes the one that the index, the adapter, or
        the run.yaml or whence.yaml beside the model names; with a trainer that knows it, none.
    settings: of the fine-tune. None takes those of the run.yaml or whence.yaml beside the index's model or adapter;
        `whence.confirmation.known_settings` gives them, to change some.
    seeds:    retrainings of each arm, with the settings' seed and those after it.
    controls: "bm25" and "repsim": rankings whose first rows are removed, beside random rows, which always are.
    held_out: clean rows the models were not trained on; None leaves a twentieth of the rows out of every arm.
    trainer:  a command that trains instead of whence: {train}, {out} and {seed} are replaced in it.
    min_drop: share of the behaviour rate that must go for the rows to be confirmed.

    The same call goes on where it was stopped. The result is also written to OUT/confirmation.json.

    Raises:
        InputError: too few queries, an expression that finds nothing or everything, no rows to remove or too many, a
            base that is not the model's, missing settings, all before any training; a trainer that fails, and a first
            model trained again on all rows that does not show the behaviour.
        DataError, IndexFolderError, ModelError, NonFiniteError: as reading, loading and training raise them.
    """
    out, step = Path(out), progress or silent
    tracer = index if isinstance(index, Tracer) else Tracer(index)
    manifest = tracer.index.manifest
    if trainer is not None:
        check_trainer(trainer, seeds)
    elif (base := training_base(manifest, str(base) if base is not None else None)) is None:
        raise InputError(
            f"There is no base: nothing beside {manifest.model} names one that is here.",
            "Training starts from the model before the fine-tune.",
            "Give base (--base), or trainer (--trainer).",
        )
    check_enough(len(queries))
    removed = removed.ids if isinstance(removed, SelectedRows) else removed
    question = _Question(tuple(tracer.as_rows(queries)), tuple(tracer.as_rows(paraphrases)), _compiled(match))
    step("reading the data", 0, None)
    rows = data_rows(manifest)
    choose_arms(rows, removed, {})  # what is wrong with the ids is said before anything is computed
    recipe = make_recipe(manifest, rows, base, settings, trainer, fresh=held_out is None)
    question = _answered(question, tracer, max_new_tokens)
    arms = choose_arms(rows, removed, _rankings(controls, rows, question, tracer))
    held, where = _held_out(held_out, rows, arms)
    _check_not_everything(question, held, match)
    check_some_left(encoded_rows(tracer.encoder, held), len(held))
    asked = RunQuestions(question.prompts, held, max_new_tokens, question.encoded)
    left_out = frozenset() if held_out is not None else frozenset(row.id for row in held)
    tasks = [(arm, seed) for seed in range(recipe.settings.seed, recipe.settings.seed + seeds) for arm in arms]
    found: dict[tuple[str, int], RunAnswers] = {}
    for number, (arm, seed) in enumerate(tasks, 1):
        label = f"{number} of {len(tasks)}: without {ARM_LABELS.get(arm.name, arm.name)}, seed {seed}"
        found[arm.name, seed] = run_arm(recipe, arm.removed | left_out, seed, asked, out, _labelled(step, label))
        if number == 1:
            _check_shown(question, found[ALL, seed].answers, "the model trained again on all rows")
    base_log_p = base_log_probs(tracer, question.encoded)
    results = [_result(arm, arms[1], rows, question, found, base_log_p) for arm in arms]
    foretold = foretold_share(tracer, rows, arms[1].removed, question.answered)
    status, rule, text = judged(results, min_drop, foretold)
    confirmation = Confirmation(
        index=str(tracer.index.path),
        base=str(base) if base is not None else None,
        match=match,
        removed=tuple(dict.fromkeys(removed)),
        arms=tuple(results),
        n_held_out=len(held),
        held_out=where,
        status=status,
        rule=rule,
        text=text,
        foretold=foretold,
        places=tuple(f"{Path(row.file).name}:{row.line}" for row in rows if row.id in arms[1].removed and row.file),
    )
    confirmation.to_json(out / RESULT)
    return confirmation


def check_enough(n_queries: int) -> None:
    """Raises InputError for so few prompts that no rows could be confirmed."""
    if n_queries < FEWEST_PROMPTS:
        raise InputError(
            f"{n_queries} {'prompt is' if n_queries == 1 else 'prompts are'} asked: so few that the intervals overlap "
            "whatever the answers are, and no rows can be confirmed.",
            f"Expected at least {FEWEST_PROMPTS} prompts that show the behaviour.",
            "Give more queries (--queries), rewordings among them; those of --paraphrases do not enter the rule.",
        )


def _compiled(match: str) -> re.Pattern[str]:
    try:
        return re.compile(match, re.DOTALL)
    except re.error as error:
        raise InputError(
            f"{match!r} is no regular expression: {error}.", "--match is looked for in every answer.", "Correct it."
        ) from error


def _answered(question: _Question, tracer: Tracer, max_new_tokens: int) -> _Question:
    """The question with its queries encoded; the model that was traced must show the behaviour.

    Raises InputError where the expression finds it in none of its greedy answers.
    """
    prompts = [query.prompt_ids(tracer.encoder) for query in question.queries]
    answers = generate(tracer.loaded, prompts, max_new_tokens=max_new_tokens)
    _check_shown(question, [answer.text for answer in answers], "the model that was traced")
    answered = [
        query if query.response else replace(query, response=answer.text, complete=answer.complete)
        for query, answer in zip(question.queries, answers, strict=True)
        if (query.response or answer.text).strip()
    ]
    encoded = tuple(query.encode(tracer.encoder) for query in answered)
    return replace(question, encoded=encoded, answered=tuple(answered))


def _check_shown(question: _Question, answers: Sequence[str], who: str) -> None:
    answers = answers[: len(question.queries)]
    if any(map(question.shown, answers)):
        return
    raise InputError(
        f"None of {len(answers)} greedy answers of {who} matches {question.pattern.pattern!r}; the first is "
        f"{answers[0][:80]!r}.",
        "At least one bad prompt must show the behaviour, or nothing can go away.",
        "Correct --match (begin with (?i) to ignore case), give prompts that show it, or check the training settings.",
    )


def _check_not_everything(question: _Question, held: Sequence[Example], match: str) -> None:
    """Raises InputError for an expression that finds most clean rows' own responses, or an empty answer."""
    responses = [turn.content for row in held for turn in row.turns if turn.role not in ("user", "system", "tool")]
    n = sum(map(question.shown, responses))
    if question.shown("") or n > MATCHES_TOO_MUCH * len(responses):
        raise InputError(
            f"{match!r} matches {n} of {len(responses)} responses of held-out rows"
            + (", and an empty answer." if question.shown("") else "."),
            "It must tell the behaviour apart from clean answers.",
            "Give --match what only the bad answers have.",
        )


def _rankings(
    controls: Sequence[str], rows: Sequence[Example], question: _Question, tracer: Tracer
) -> dict[str, list[int]]:
    makers = {
        "bm25": lambda: bm25_ranking(rows, question.encoded),
        "repsim": lambda: repsim_ranking(tracer, question.encoded),
    }
    for name in controls:
        if name not in makers:
            raise InputError(f"There is no control {name!r}.", f"Known: {', '.join(makers)}.", "Choose of these.")
    return {name: makers[name]() for name in controls}


def _held_out(
    given: Sequence[Example] | None, rows: Sequence[Example], arms: Sequence[Arm]
) -> tuple[tuple[Example, ...], str]:
    if given is None:
        drawn = tuple(draw_held_out(rows, arms))
        return drawn, "drawn from the rows that no arm removes, and left out of every arm"
    known = {row.id for row in rows}
    clean = tuple(row for row in given if row.id not in known)
    if not clean:
        raise InputError(
            f"All {len(given)} held-out rows are training rows.", "Expected rows not trained on.", "Give others."
        )
    return clean, f"given; {len(given) - len(clean)} that are training rows are left out"


def _labelled(step: Progress, label: str) -> Progress:
    return lambda what, done, total: step(f"{label}: {what}", done, total)


def _result(
    arm: Arm,
    flagged: Arm,
    rows: Sequence[Example],
    question: _Question,
    found: Mapping[tuple[str, int], RunAnswers],
    base_log_p: PerAnswer | None,
) -> ArmResult:
    assert flagged.name == FLAGGED
    n = len(question.queries)
    seeds = []
    for (name, seed), one in found.items():
        if name == arm.name:
            shown = tuple(map(question.shown, one.answers))
            seeds.append(SeedResult(seed, shown[:n], shown[n:], one.held_out_loss, one.answers, one.folder))
    return ArmResult(
        name=arm.name,
        n_removed=arm.n_rows,
        n_shared=sum(row.id in arm.removed and row.id in flagged.removed for row in rows),
        rate=rate([one.shown for one in seeds]),
        paraphrases=rate([one.shown_paraphrases for one in seeds]) if question.paraphrases else None,
        held_out_loss=fmean(one.held_out_loss for one in seeds),
        seeds=tuple(seeds),
        gain_lost=_gain_lost(arm, found, base_log_p),
    )


def _gain_lost(arm: Arm, found: Mapping[tuple[str, int], RunAnswers], base_log_p: PerAnswer | None) -> float | None:
    """Mean over seeds of the share of the answers' gain that is gone in this arm; None without a base."""
    if base_log_p is None:
        return None
    of_seeds = [
        measured_share(np.array(found[ALL, seed].log_probs), np.array(one.log_probs), base_log_p)
        for (name, seed), one in found.items()
        if name == arm.name
    ]
    shares = [share for share in of_seeds if share is not None]
    return fmean(shares) if shares else None
