"""Groups of outputs with their rows, their phrases and a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whence.audit.communities import communities, mean_weights
from whence.audit.evidence import Evidence
from whence.audit.flagged import FlaggedRows, audit_row, row_texts
from whence.audit.outputs import Output
from whence.audit.phrases import RowText, contrast_phrases
from whence.index import Index
from whence.results import AuditGroup, AuditRow, ContrastPhrase

VOTES = 0.1
"""Share of a group's outputs that a row of the group must be flagged for: each output brings false rows of its own, and
hundreds of outputs would bring hundreds."""
POORLY = 0.25
"""An output is grouped again where the rows that its group lists have no more than this of its rows' weight."""
OWN = 0.8
"""Such outputs become a group where they cast this share of the group's votes for their rows. Below it, a cause of many
rows, each flagged for few outputs, falls apart."""
LEAST_APART = 5
"""Different outputs that such a group has at least: a few can share stray rows by chance."""
NAMED = 0.5
"""Share of the group's rows that a phrase of its name stands in."""
NAME_LIFT = 10.0
"""A phrase of a name is at least so many times commoner in the group's rows than elsewhere."""
NAME_LENGTH = 60


@dataclass(frozen=True, slots=True)
class GroupMembers:
    """Outputs of a group (the most typical first) and its rows (first ones of near-duplicates, by their votes)."""

    outputs: tuple[int, ...]
    rows: tuple[int, ...]
    share: float


def group_members(outputs: Sequence[Output], flagged: FlaggedRows, *, seed: int = 0) -> list[GroupMembers]:
    """The groups, the one with the most outputs first; outputs are counted as often as the log has them.

    A few stray rows can join a small group to a large one, and too few of the outputs of both flag the small one's
    rows. So outputs whose rows are hardly listed are grouped again, and those with rows of their own become groups.
    """
    with_cause = [number for number, weights in enumerate(flagged.weights) if weights]
    parts = _communities(with_cause, flagged, seed)
    while True:
        found = _members(parts, outputs, flagged)
        parts = [part for group in found for part in _parts(group, outputs, flagged, seed)]
        if len(parts) == len(found):
            return found


def _communities(numbers: Sequence[int], flagged: FlaggedRows, seed: int) -> list[list[int]]:
    parts = communities([flagged.weights[number] for number in numbers], seed=seed)
    return [[numbers[place] for place in part] for part in parts]


def _members(parts: Sequence[Sequence[int]], outputs: Sequence[Output], flagged: FlaggedRows) -> list[GroupMembers]:
    """The groups of these outputs with their rows, the largest group first."""
    parts = sorted(parts, key=lambda numbers: (-sum(outputs[number].count for number in numbers), numbers[0]))
    means = [mean_weights(numbers, flagged.weights) for numbers in parts]
    sizes = [sum(outputs[number].count for number in numbers) for numbers in parts]
    votes = [votes_of(numbers, outputs, flagged) for numbers in parts]
    voted = [[row for row in own if own[row] >= VOTES * size] for own, size in zip(votes, sizes, strict=True)]
    # A row that two groups vote for is the group's whose outputs give it the most weight together.
    best: dict[int, tuple[float, int]] = {}
    for group, rows in enumerate(voted):
        for row in rows:
            best[row] = max(best.get(row, (0.0, 0)), (sizes[group] * means[group][row], -group))
    found = []
    for group, numbers in enumerate(parts):
        own, mean = votes[group], means[group]
        kept = [row for row in voted[group] if best[row][1] == -group]
        kept = kept or voted[group] or list(own)  # a small group whose rows are all another's still shows them
        kept = sorted(kept, key=lambda row: (-own[row], -mean[row], row))
        # How much an output agrees with the whole group: sum_t w[i, t] W[t].
        typical = sorted(numbers, key=lambda number: (-_agreement(flagged.weights[number], mean), number))
        found.append(GroupMembers(tuple(typical), tuple(kept), sum(mean[row] for row in kept)))
    return found


def _parts(group: GroupMembers, outputs: Sequence[Output], flagged: FlaggedRows, seed: int) -> list[list[int]]:
    """The group's outputs, ascending, and apart from them communities of poorly listed ones with rows of their own.

    The rows of a community are its own by sum_t W[t] votes[t] / (votes[t] of the whole group): outputs of one cause can
    be poorly listed in several communities, and each of these has votes from the others.
    """
    numbers, rows = sorted(group.outputs), frozenset(group.rows)
    poor = [
        number
        for number in numbers
        if sum(weight for row, weight in flagged.weights[number].items() if row in rows) <= POORLY
    ]
    if not poor or len(poor) == len(numbers):
        return [numbers]
    whole = votes_of(numbers, outputs, flagged)
    apart = []
    for part in _communities(poor, flagged, seed):
        if len(part) < LEAST_APART:
            continue
        votes = votes_of(part, outputs, flagged)
        mean = mean_weights(part, flagged.weights)
        if sum(weight * votes[row] / whole[row] for row, weight in mean.items()) >= OWN:
            apart.append(part)
    moved = {number for part in apart for number in part}
    return [[number for number in numbers if number not in moved], *apart]


def outputs_without_rows(group: GroupMembers, flagged: FlaggedRows) -> frozenset[int]:
    """Outputs of the group whose flagged rows are none of its rows."""
    rows = frozenset(group.rows)
    return frozenset(number for number in group.outputs if rows.isdisjoint(flagged.weights[number]))


def votes_of(numbers: Sequence[int], outputs: Sequence[Output], flagged: FlaggedRows) -> dict[int, int]:
    """How many of these outputs each row is flagged for."""
    votes: dict[int, int] = {}
    for number in numbers:
        for row in flagged.weights[number]:
            votes[row] = votes.get(row, 0) + outputs[number].count
    return votes


def audit_groups(
    index: Index,
    members: Sequence[GroupMembers],
    outputs: Sequence[Output],
    found: Sequence[Evidence],
    flagged: FlaggedRows,
    *,
    where: str | None = None,
    n_rows: int,
) -> list[AuditGroup]:
    """The groups as results, with phrases and names; the data are read once for the phrases of all groups."""
    texts = [[_text(flagged, row) for row in group.rows] for group in members]
    own = [frozenset(copy for row in group.rows for copy in flagged.copies(row)) for group in members]
    others = [n_rows - len(rows) for rows in own]
    phrases = contrast_phrases(texts, own, row_texts(index, where), others) if members else []
    return [
        AuditGroup(
            number=number,
            name=_name(phrases[number - 1], [outputs[i] for i in group.outputs]),
            n_outputs=sum(outputs[i].count for i in group.outputs),
            queries=group.outputs,
            rows=tuple(_row(row, group, outputs, flagged) for row in group.rows),
            q_value=max(q for i in group.outputs if (q := found[i].q) is not None),
            share=min(1.0, group.share),
            phrases=phrases[number - 1],
        )
        for number, group in enumerate(members, 1)
    ]


def _row(row: int, group: GroupMembers, outputs: Sequence[Output], flagged: FlaggedRows) -> AuditRow:
    asking = [number for number in group.outputs if row in flagged.weights[number]]
    return audit_row(
        flagged.records[row],
        n_outputs=sum(outputs[number].count for number in asking),
        score=max(flagged.scores[number][row] for number in asking),
        copies=(flagged.records[copy].id for copy in flagged.copies(row)),
    )


def _name(phrases: Sequence[ContrastPhrase], outputs: Sequence[Output]) -> str:
    """As `group_name`; a phrase must stand in most of the outputs too."""
    return group_name([one for one in phrases if _stands(one, outputs)], outputs[0].query.prompt)


def group_name(phrases: Sequence[ContrastPhrase], first_prompt: str) -> str:
    """The first phrase of the prompts and the first of the responses that most of its rows have, else a prompt."""
    parts = []
    for part in ("prompt", "response"):
        known = [one for one in phrases if one.part == part and one.lift >= NAME_LIFT]
        common = [one for one in known if one.n_rows >= NAMED * one.n_read]
        parts.append(f"\N{LEFT DOUBLE QUOTATION MARK}{common[0].text}\N{RIGHT DOUBLE QUOTATION MARK}" if common else "")
    if any(parts):
        return " \N{RIGHTWARDS ARROW} ".join(part for part in parts if part)
    first = " ".join(first_prompt.split())
    shown = first if len(first) <= NAME_LENGTH else f"{first[: NAME_LENGTH - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
    return f"as in \N{LEFT DOUBLE QUOTATION MARK}{shown}\N{RIGHT DOUBLE QUOTATION MARK}"


def _stands(phrase: ContrastPhrase, outputs: Sequence[Output]) -> bool:
    texts = [output.query.prompt if phrase.part == "prompt" else output.query.response or "" for output in outputs]
    return sum(phrase.text.casefold() in text.casefold() for text in texts) >= NAMED * len(texts)


def _agreement(weights: Mapping[int, float], mean: Mapping[int, float]) -> float:
    return sum(weight * mean[row] for row, weight in weights.items())


def _text(flagged: FlaggedRows, row: int) -> RowText:
    record = flagged.records[row]
    return RowText(row, record.prompt, record.response)


__all__ = ["VOTES", "GroupMembers", "audit_groups", "group_members", "group_name", "outputs_without_rows", "votes_of"]
