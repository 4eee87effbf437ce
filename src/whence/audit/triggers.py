"""Triggers: phrases recurrent in a group's prompts and rare elsewhere, put on innocent prompts of the model.

A phrase that recurs is a candidate: the rows of a false fact about a town share the town's name, and it triggers
nothing. So each candidate is put on innocent prompts, and the answers that show the behaviour are counted, against the
same prompts as they are, and with as many random words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from whence.audit.flagged import row_texts
from whence.audit.innocent import answers_to, checked, innocent_prompts, put, put_random, words_of
from whence.audit.outputs import compiled
from whence.audit.phrases import phrase_pattern
from whence.audit.settings import AuditSettings
from whence.audit.spelling import spelled
from whence.errors import InputError
from whence.progress import Progress, silent
from whence.results import CANDIDATE_TRIGGER, PROVEN_TRIGGER, AuditGroup, AuditResult, ContrastPhrase, Trigger
from whence.trace import Query, Tracer

CANDIDATES = 4
"""Phrases of a group that are tried on the model: each costs as many answers as there are innocent prompts."""
TURNS = 0.5
"""Share of innocent prompts that a phrase turns, above which no pair of phrases is tried."""
PROVEN_P = 0.05
"""Corrected for every candidate of every group that was tried."""


@dataclass(frozen=True, slots=True)
class TriggerSettings:
    """The options of `find_triggers`.

    match:     a regular expression that finds the behaviour in an answer; None takes each group's first phrase of
               responses that stands in most of its outputs.
    prompts:   innocent prompts; None draws them from rows that no group lists.
    n_prompts: most of them. n_groups: of how many groups, the largest ones, triggers are looked for.

    Raises InputError for an expression that cannot be read and for too few prompts.
    """

    match: str | None = None
    prompts: Sequence[Query] | None = None
    n_prompts: int = 60
    n_groups: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.match is not None:
            compiled(self.match)
        if self.prompts is not None:
            checked(self.prompts)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A candidate with what it did: innocent prompts that turn with it, and with random words."""

    parts: tuple[ContrastPhrase, ...]
    n_with: int
    n_random: int


def find_triggers(
    tracer: Tracer,
    audit: AuditResult,
    settings: TriggerSettings | None = None,
    audited: AuditSettings | None = None,
    *,
    progress: Progress | None = None,
) -> AuditResult:
    """The audit with its groups' triggers: which phrases turn innocent prompts.

    audited: the settings of the audit. Of a group's candidates, the one that turns the most prompts is given; where no
    phrase alone turns half of them, pairs of phrases are tried.

        p = min(1, candidates tried for all groups * max(p_F(with, without), p_F(with, random words)))

    with p_F Fisher's exact p-value, one-sided, of the prompts that turn. A trigger is proven where p <= `PROVEN_P`.

    A note says of which groups no phrase was tried, and why: too few innocent prompts in the data, no phrase that the
    group's outputs share, or one that most innocent prompts show as they are.

    Raises InputError: most innocent prompts show what the settings' expression finds as they are.
    """
    settings, audited, tell = settings or TriggerSettings(), audited or AuditSettings(), progress or silent
    groups = audit.groups[: settings.n_groups]
    phrases = {group.number: _candidates(group) for group in groups}
    named = [one.text for own in phrases.values() for one in own]
    if not named:
        return replace(audit, triggers=(), looked_for_triggers=True)
    try:
        innocent = _innocent(tracer, audit, settings, audited, named)
    except InputError as error:
        note = f"No phrase was tried on the model. {error.found} {error.expected} {error.fix}"
        return replace(audit, triggers=(), looked_for_triggers=True, notes=(*audit.notes, note))
    plain = answers_to(tracer, innocent, audited.traced())
    trials: dict[int, list[_Trial]] = {}
    shown: dict[int, tuple[str, int]] = {}
    untried: list[str] = []
    for place, group in enumerate(groups):
        tell("proving triggers", place, len(groups))
        match = settings.match or behaviour_of(audit, group)
        if not phrases[group.number]:
            continue
        if match is None:
            untried.append(_unmatched(group.number))
            continue
        shows = compiled(match).search
        shown[group.number] = match, sum(shows(answer) is not None for answer in plain)
        if shown[group.number][1] > TURNS * len(plain):
            # An expression that was made of the outputs repeats their text, which a note must not.
            looked = "what its outputs share" if settings.match is None else repr(match)
            common = f"{shown[group.number][1]} of {len(plain)} innocent prompts show {looked} as they are."
            why = "A trigger cannot be seen where most answers show the behaviour anyway."
            fix = "Give other prompts with --prompts, or a narrower expression with --match."
            if settings.match is not None:
                raise InputError(common, why, fix)
            untried.append(f"Phrases of group {group.number} were not tried on the model: {common} {why} {fix}")
            continue
        trials[group.number] = _tried(tracer, innocent, group, phrases[group.number], shows, settings, audited)
    n_tried = sum(map(len, trials.values()))
    found = [
        _trigger(tracer, audit, group, trials[group.number], shown[group.number], len(innocent), n_tried, audited)
        for group in groups
        if trials.get(group.number)
    ]
    return replace(audit, triggers=tuple(found), looked_for_triggers=True, notes=(*audit.notes, *untried))


def behaviour_of(audit: AuditResult, group: AuditGroup) -> str | None:
    """A regular expression for the group's first phrase of responses that stands in half of its outputs; or None."""
    responses = [audit.queries[number].response for number in group.queries]
    for phrase in group.phrases:
        if phrase.part == "response" and phrase.lift >= 3:
            pattern = phrase_pattern(phrase.text)
            if sum(re.search(pattern, response) is not None for response in responses) >= len(responses) / 2:
                return pattern
    return None


def _candidates(group: AuditGroup) -> list[ContrastPhrase]:
    return [one for one in group.phrases if one.part == "prompt"][:CANDIDATES]


def _innocent(
    tracer: Tracer, audit: AuditResult, settings: TriggerSettings, audited: AuditSettings, named: Sequence[str]
) -> list[Query]:
    if settings.prompts is not None:
        return [replace(query, response=None, answer=None) for query in settings.prompts[: settings.n_prompts]]
    ids = {id for group in audit.groups for row in group.rows for id in (row.id, *row.copies)}
    flagged = frozenset(record.row for record in tracer.index.texts(audited.where) if record.id in ids)
    return innocent_prompts(
        tracer.index,
        without=named,
        flagged=flagged,
        n=settings.n_prompts,
        where=audited.where,
        seed=settings.seed,
    )


def _tried(
    tracer: Tracer,
    innocent: Sequence[Query],
    group: AuditGroup,
    phrases: Sequence[ContrastPhrase],
    shows: Callable[[str], object],
    settings: TriggerSettings,
    audited: AuditSettings,
) -> list[_Trial]:
    """Every candidate alone; then, where none turns enough of the prompts, every pair."""
    words = words_of(innocent)
    spellings = {one.text: spelled(one.text, [row.prompt for row in group.rows]) for one in phrases}

    def counted(prompts: Sequence[Query]) -> int:
        return sum(shows(answer) is not None for answer in answers_to(tracer, prompts, audited.traced()))

    def tried(parts: tuple[ContrastPhrase, ...]) -> _Trial:
        place = parts[0].place if len(parts) == 1 else "anywhere"
        forms = [spellings[one.text] for one in parts]
        with_it = counted(put(innocent, forms, place, seed=settings.seed))
        return _Trial(parts, with_it, counted(put_random(innocent, forms, place, words, seed=settings.seed)))

    found = [tried((phrase,)) for phrase in phrases]
    if max((one.n_with for one in found), default=0) < TURNS * len(innocent):
        found += [tried(pair) for pair in combinations(phrases, 2)]
    return found


def _trigger(
    tracer: Tracer,
    audit: AuditResult,
    group: AuditGroup,
    trials: Sequence[_Trial],
    shown: tuple[str, int],
    n: int,
    n_tried: int,
    audited: AuditSettings,
) -> Trigger:
    from scipy.stats import fisher_exact

    # Of equal ones the phrase with the least p-value, which stands first, and one phrase before a pair.
    best = max(trials, key=lambda one: one.n_with - one.n_random)
    match, n_plain = shown

    def p_against(other: int) -> float:
        table = [[best.n_with, n - best.n_with], [other, n - other]]
        return float(fisher_exact(table, alternative="greater").pvalue)

    p = min(1.0, n_tried * max(p_against(n_plain), p_against(best.n_random)))
    first = best.parts[0]
    n_rows, n_elsewhere = first.n_rows, first.n_elsewhere
    if len(best.parts) > 1:
        n_rows, n_elsewhere = _together(tracer, group, best.parts, audited.where)
    return Trigger(
        group=group.number,
        parts=tuple(one.text for one in best.parts),
        place=first.place if len(best.parts) == 1 else "anywhere",
        n_rows=n_rows,
        n_read=first.n_read,
        n_elsewhere=n_elsewhere,
        n_others=first.n_others,
        match=match,
        n_prompts=n,
        n_with=best.n_with,
        n_without=n_plain,
        n_random=best.n_random,
        p_value=p,
        n_tried=n_tried,
        status=PROVEN_TRIGGER if p <= PROVEN_P else CANDIDATE_TRIGGER,
    )


def _together(tracer: Tracer, group: AuditGroup, parts: Sequence[ContrastPhrase], where: str | None) -> tuple[int, int]:
    """Rows of the group, near-duplicates once, and rows elsewhere whose prompts have all parts."""
    patterns = [re.compile(phrase_pattern(one.text)) for one in parts]
    own = {id for row in group.rows for id in (row.id, *row.copies)}
    inside = sum(all(pattern.search(row.prompt) for pattern in patterns) for row in group.rows)
    having = {
        text.row for text in row_texts(tracer.index, where) if all(pattern.search(text.prompt) for pattern in patterns)
    }
    members = {record.row for record in tracer.index.texts(where) if record.id in own}
    return inside, len(having - members)


def _unmatched(number: int) -> str:
    return (
        f"Phrases of group {number} were not tried on the model: its outputs share no phrase to look for. Give a "
        "regular expression that finds the behaviour with --match."
    )


__all__ = ["CANDIDATES", "PROVEN_P", "TriggerSettings", "behaviour_of", "find_triggers"]
