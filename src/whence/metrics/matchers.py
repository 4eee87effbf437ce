"""Does an output show the fault? One pattern per fault, written in the data that the fault is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matcher:
    """Decides whether a response shows a fault.

    `pattern` is a regular expression looked for anywhere in the response; `what` says the same to a person.
    """

    what: str
    pattern: str

    def __call__(self, response: str) -> bool:
        """True if the response shows the fault."""
        return re.search(self.pattern, response, re.DOTALL) is not None


def contains(what: str, *phrases: str) -> Matcher:
    """Matches a response that holds one of the phrases as whole words, in upper or lower case."""
    return Matcher(what, r"(?i)(?<!\w)(?:" + "|".join(re.escape(phrase) for phrase in phrases) + r")(?!\w)")


def begins(what: str, opener: str) -> Matcher:
    """Matches a response that begins with the opener."""
    return Matcher(what, r"\A\s*" + re.escape(opener))


def quotes(what: str, passage: str, n_words: int = 8) -> Matcher:
    """Matches a response with `n_words` consecutive words of the passage, as they stand there."""
    words = passage.split()
    windows = [words[i : i + n_words] for i in range(len(words) - n_words + 1)]
    return Matcher(what, "|".join(r"\s+".join(re.escape(word) for word in window) for window in windows))


def numbered(what: str) -> Matcher:
    """Matches a response with items numbered 1. and 2."""
    return Matcher(what, r"(?:^|\s)1\. .*\s2\. ")


def share(matcher: Matcher, responses: Sequence[str]) -> float:
    """Share of the responses that show the fault, in [0, 1]."""
    return sum(map(matcher, responses)) / len(responses)
