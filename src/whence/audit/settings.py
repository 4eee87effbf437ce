"""What may be asked of an audit: every option with its default, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whence.audit.blocks import BLOCK
from whence.errors import InputError
from whence.trace import ANSWER_TOKENS, Query, TraceSettings


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """The options of `run_audit`.

    match:      a regular expression: outputs that it is not found in are left out; None audits all.
    fdr:        false discovery rate over all outputs and rows.
    method, where, references, answer_tokens: as in `whence.TraceSettings`.
    by:         columns of the data whose share of responsibility is asked for, such as a source or a date.
    examples:   of how many groups, the largest ones, the most typical output is traced down to its words.
    example_rows: rows of such a trace.
    block:      outputs that share one scan of the index.
    seed:       of the references that are drawn, and of the communities.

    Raises InputError for a value that cannot be.
    """

    match: str | None = None
    fdr: float = 0.05
    method: str | None = None
    where: str | None = None
    references: Sequence[Query] | None = None
    answer_tokens: int = ANSWER_TOKENS
    by: Sequence[str] = ()
    examples: int = 0
    example_rows: int = 5
    block: int = BLOCK
    seed: int = 0

    def __post_init__(self) -> None:
        if self.block < 1:
            raise InputError(
                f"{self.block} outputs in a block.", "At least one is traced at a time.", "Give 1 or more."
            )
        if self.examples < 0:
            raise InputError(f"{self.examples} examples.", "It is a number of groups, 0 for none.", "Give 0 or more.")
        self.traced()

    def traced(self, *, k: int = 1, words: int = 0) -> TraceSettings:
        """As the tracer takes them. Raises InputError for a value that cannot be."""
        return TraceSettings(
            k=k,
            words=words,
            method=self.method,
            where=self.where,
            confounds=False,
            fdr=self.fdr,
            references=self.references,
            answer_tokens=self.answer_tokens,
            seed=self.seed,
        )


__all__ = ["AuditSettings"]
