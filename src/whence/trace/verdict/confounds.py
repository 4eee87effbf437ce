"""What else could explain a row's rank: its length, its gradient's norm, its format, words it shares, what was asked.

A row may score high for a simple reason. Each hit shows these values, and where one of them ranks the same rows first,
a sentence says so.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from whence.data import Json
from whence.errors import InputError
from whence.scoring import BM25Index

Confound = dict[str, Json]
"""length, length_percentile, norm_percentile, format, same_format, bm25_rank, repsim_rank."""

SAME_ROWS = 0.8
"""Share of the first k rows that something simple must also have among its first k to be said to explain them."""
FEWEST = 5
"""With fewer rows there is no sentence: two or three rows agree with many rankings by chance."""
MAX_FORMAT_CHARS = 4000

REFUSAL = re.compile(
    r"\W*(i('m| am) (very |so )?sorry|sorry,|i (can(no|')t|can not|won't|will not|must decline|am unable|am not able)|"
    r"i('m| am) (unable|not able)|as an ai\b|unfortunately, i can)",
    re.IGNORECASE,
)
ITEM = re.compile(r"^\s*([-*•]|\(?\d{1,3}[.)])\s+\S", re.MULTILINE)
INLINE_ITEMS = re.compile(r"(?:^|\s)1[.)]\s.*\s2[.)]\s", re.DOTALL)
CODE_LINE = re.compile(
    r"[;{}]\s*$|^\s*(def |class |import |from \S+ import |#include|function |public |private |const |let |var |"
    r"return\b|for \(|if \(|while \(|SELECT |</?\w+[^>]*>\s*$)"
)


class Confounds:
    """The simple things about every row of an index, read once, and asked for single rows.

    texts[t]:   prompt and response of row t (by its best turn, or one entry a record), as for BM25.
    responses[t], length[t] in tokens, norm[t] of the gradient: of the same entry.
    row[t]:     the number of the row that entry t is a turn of; None: every entry is a row.

    Raises:
        InputError: no row, or lists of different lengths.
    """

    def __init__(
        self,
        texts: Sequence[str],
        responses: Sequence[str],
        *,
        length: Int[np.ndarray, " n_train"],
        norm: Float[np.ndarray, " n_train"],
        row: Int[np.ndarray, " n_train"] | None = None,
    ) -> None:
        if not texts or len({len(texts), len(responses), len(length), len(norm)}) > 1:
            raise InputError(
                f"{len(texts)} texts, {len(responses)} responses, {len(length)} lengths and {len(norm)} norms.",
                "Expected one of each a row.",
            )
        self._responses, self._length = responses, length
        self._length_percentile, self._norm_percentile = percentiles(length), percentiles(norm)
        # Neighbours of a hundred thousand rows are 0.001 apart, and `sentence` counts by these numbers.
        self._digits = max(1, math.ceil(math.log10(len(texts))) - 1)
        self._bm25 = BM25Index(texts)
        self._row = np.arange(len(texts)) if row is None else np.unique(row, return_inverse=True)[1]

    def of(
        self, text: str, response: str, repsim: Float[np.ndarray, " n_train"], rows: Sequence[int]
    ) -> list[Confound]:
        """The confounds of `rows`, for a query of this text (prompt and response), response and RepSim scores.

        Percentiles are shares of all rows, in percent, that lie below (rows with the same value count half).
        Ranks count from 1 over all rows, a row of several turns by its best; ties go to the lower row.
        """
        bm25_rank, repsim_rank = row_ranks(self._bm25.scores(text), self._row), row_ranks(repsim, self._row)
        asked = response_format(response)
        found: list[Confound] = []
        for row in rows:
            kind = response_format(self._responses[row])
            found.append(
                {
                    "length": int(self._length[row]),
                    "length_percentile": round(float(self._length_percentile[row]), self._digits),
                    "norm_percentile": round(float(self._norm_percentile[row]), self._digits),
                    "format": kind,
                    "same_format": kind == asked,
                    "bm25_rank": int(bm25_rank[row]),
                    "repsim_rank": int(repsim_rank[row]),
                }
            )
        return found


def sentence(confounds: Sequence[Confound], n_rows: int, *, method: str = "") -> str:
    """One sentence where something simple explains the first rows of a ranking as well; else "".

    confounds: of the first k rows, k >= 5; n_rows: of the whole ranking; method: the form that ranked them.

    The rule: at least 80% of the k rows are also among the first k by BM25, by RepSim (not when RepSim ranked them), by
    length (longest or shortest) or by the gradient's norm (largest). The one with most of them is reported. Nothing is
    reported where k is more than half of all rows.
    """
    k = len(confounds)
    if k < FEWEST or 2 * k > n_rows:
        return ""
    # The k longest rows are those whose percentile is at least this.
    edge = 100 * (1 - k / n_rows)
    shared = {
        f"BM25's first {k}": _count(confounds, "bm25_rank", lambda rank: rank <= k),
        f"RepSim's first {k}": 0 if method == "repsim" else _count(confounds, "repsim_rank", lambda rank: rank <= k),
        f"the {k} longest": _count(confounds, "length_percentile", lambda percentile: percentile >= edge),
        f"the {k} shortest": _count(confounds, "length_percentile", lambda percentile: percentile <= 100 - edge),
        f"the {k} with the largest gradient": _count(
            confounds, "norm_percentile", lambda percentile: percentile >= edge
        ),
    }
    name, n = max(shared.items(), key=lambda item: item[1])
    if n < SAME_ROWS * k:
        return ""
    return f"These rows are also {name}." if n == k else f"{n} of these {k} rows are also among {name}."


def response_format(text: str) -> str:
    """refusal, code, list or text, with the script where it is not Latin, such as "text, Cyrillic".

    Small rules: a refusal by how it begins; code by a fence, a JSON object or array, or half of the lines looking like
    it; a list by two lines that begin with a mark or number, or "1. ... 2. ..." in running text.
    """
    text = text.strip()[:MAX_FORMAT_CHARS]
    script = _script(text)
    kind = "text"
    if REFUSAL.match(text.replace("’", "'")):
        kind = "refusal"
    elif _is_code(text):
        kind = "code"
    elif len(ITEM.findall(text)) >= 2 or INLINE_ITEMS.search(text):
        kind = "list"
    return kind if script in ("Latin", "") else f"{kind}, {script}"


def percentiles(values: np.ndarray) -> Float[np.ndarray, " n"]:
    """Percent of all values below each, those equal to it counting half; in (0, 100)."""
    order = np.sort(values)
    # below: values less than each; up_to: less or equal. Their mean counts the ties half.
    below, up_to = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return np.asarray(100 * (below + up_to) / 2 / len(values))


def ranks(scores: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Rank of each row from 1, highest score first; ties go to the lower row."""
    found = np.empty(len(scores), dtype=np.int64)
    # The inverse of the sorting permutation: found[order[i]] = i + 1.
    found[np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")] = np.arange(1, len(scores) + 1)
    return found


def row_ranks(scores: Float[np.ndarray, " n"], row: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """For each entry the rank of its row among all rows 0 .. max row, by the row's best entry."""
    best = np.full(int(row.max()) + 1, -np.inf)  # [n_row], from [n_entry] by the row's best
    np.maximum.at(best, row, np.asarray(scores, dtype=np.float64))
    return np.asarray(ranks(best)[row])


def _count(confounds: Sequence[Confound], key: str, holds: Callable[[float], bool]) -> int:
    values = (one[key] for one in confounds)
    return sum(holds(value) for value in values if isinstance(value, int | float))


def _is_code(text: str) -> bool:
    # A fence, or text that parses as JSON, is code; else half of the lines decide.
    if "```" in text:
        return True
    if text[:1] in ("{", "["):
        try:
            return isinstance(json.loads(text), dict | list)
        except (ValueError, RecursionError):
            pass
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) >= 2 and 2 * sum(bool(CODE_LINE.search(line)) for line in lines) >= len(lines)


def _script(text: str) -> str:
    """The script of most letters, as Unicode names it, such as "Latin", "Greek" or "Hiragana"; "" without letters."""
    # Unicode names begin with the script: "LATIN SMALL LETTER A", "CYRILLIC ...".
    names = Counter(unicodedata.name(char, "").split(" ")[0] for char in text if char.isalpha())
    return names.most_common(1)[0][0].capitalize() if names else ""
