"""What `calibrate` finds of one answer, and its sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from whence.trace.verdict.reference_scores import PerRow

MAY_SHOW_IT = (
    "; they answer training prompts and may show the fault too: give --references FILE, prompts of the same kind that "
    "were not trained on"
)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """p- and q-values of every row, and the rows flagged at the false discovery rate, best score first.

    p[t] <= fdr is not enough to be flagged: q[t] <= fdr is. `p_answer` is the chance that an ordinary answer is as much
    out of the ordinary; None where no gains were given. q is never below it.
    """

    p: PerRow
    q: PerRow
    flagged: Int[np.ndarray, " n_flagged"]
    p_answer: float | None
    fdr: float
    null_model: str
    n_compared: int = 0
    """References that the answer was compared with; without gains 0."""
    n_as_high: int | None = None
    """Of these, those whose best rows' scores times peak gain are as high; None where that was not compared."""
    n_by_score: int = 0
    """Rows that would be flagged whatever the answer."""
    compared_by_score: bool = False
    """Whether answers were compared by the mean score of the flagged rows, not by their gains."""
    compared: Bool[np.ndarray, " n_reference"] | None = None
    """Which references the answer was compared with; None without gains."""
    q_rows: PerRow | None = None
    """q[t] of the rows' scores alone, without the answer's own p-value."""
    of_training_prompts: bool = False
    """Whether the references answer prompts drawn from the training data, not prompts that were given."""
    gain: float | None = None
    """Log-likelihood gain of the whole response, nats."""

    @property
    def too_few(self) -> bool:
        """Whether so few references remain that even the highest gain among them would not pass."""
        return self.p_answer is not None and 1 / (1 + self.n_compared) > self.fdr

    @property
    def text(self) -> str:
        """The verdict as a sentence, where no text stands twice among the flagged rows."""
        return self.sentence(len(self.flagged))

    def sentence(self, n_texts: int) -> str:
        """The verdict as a sentence. n_texts: different texts of the flagged rows."""
        n, rate = len(self.flagged), f"false discovery rate {100 * self.fdr:g}%"
        if n:
            texts = f"{n_texts} different text{'s' if n_texts > 1 else ''}, " if n_texts < n else ""
            return f"{n} row{'s' if n > 1 else ''} flagged ({texts}{rate})"
        if self.too_few:
            needed = math.ceil(1 / self.fdr) - 1
            return (
                f"no verdict, ranks only: this answer can be compared with {self.n_compared} reference answers, "
                f"{needed} are needed for a {rate}"
            )
        if self.n_as_high is not None and self.gain is not None and self.p_answer is not None:
            if self.gain <= 0:
                return "no row flagged: fine-tuning did not make this answer likelier"
            if (1 + self.n_as_high) / (1 + self.n_compared) > self.fdr:
                return (
                    f"no row flagged: {100 * self.n_as_high / self.n_compared:.0f}% of {self.n_compared} ordinary "
                    "answers stand as high, by the score of their best rows times the gain of their most changed tokens"
                    + (MAY_SHOW_IT if self.of_training_prompts else "")
                )
            if self.p_answer > self.fdr:
                # p_answer = exp(-gain): the base alone may have given this answer.
                return f"no row flagged: fine-tuning made this answer no more than {self.gain:.1f} nats likelier"
        if self.compared_by_score and self.n_by_score and self.p_answer is not None:
            return (
                f"no row flagged: {self.n_by_score} rows score high, but no higher than others do "
                f"for {100 * self.p_answer:.0f}% of ordinary answers, which have high log-likelihood gains as well"
            )
        if self.p_answer is not None and self.p_answer > self.fdr and not self.compared_by_score:
            return "no row flagged: fine-tuning did not make this answer likelier than ordinary ones"
        return f"no row flagged ({rate})"


__all__ = ["Calibrated"]
