"""Sentences and figures that the page and the Markdown share."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from whence.report.printable import printable
from whence.results import Phrase, QueryResult, Verdict, Words

NO_VERDICT = "Nothing was calibrated: the rows are ranked, none is flagged, and a ranking always has a first row."
NO_ROWS = "No row was scored: the filter leaves none."
CANDIDATES = "Each row is a candidate: it ranks high. Only a retraining without it shows whether it is a cause."
AS_A_GROUP = (
    "Rows that were removed for the retraining share its outcome, as a group: one among them may have done nothing. "
    "Every other row is a candidate."
)
NONE_FLAGGED = (
    "No row is flagged: the rows are in order, and it is not known whether any is a cause. This does not show that "
    "the data are clean. To find out more, {span}compare with ordinary prompts of the same kind "
    "that were not trained on (--references), or retrain without the first rows (whence confirm --remove top:10, "
    "with --trace trace.json in the order of the trace that was written with --json trace.json)."
)
ASK_ABOUT_WORDS = (
    "ask about the wrong words alone (--span: it sharpens the order, the verdict stays that of the whole answer), "
)
LEFT_OUT = "The texts of the rows are left out."


def rows_note(query: QueryResult, show_text: bool) -> str:
    """What stands above the rows."""
    if not query.hits:
        return NO_ROWS
    note = about_rows(query)
    return note if show_text else f"{note} {LEFT_OUT}"


def about_rows(query: QueryResult) -> str:
    """What is known of the rows."""
    if query.confirmation:
        return AS_A_GROUP
    tested = query.verdict is not None and query.verdict.null_model
    if tested and query.verdict and not query.verdict.flagged:
        return NONE_FLAGGED.format(span="" if query.span else ASK_ABOUT_WORDS)
    return CANDIDATES


def headline(verdict: Verdict | None) -> tuple[str, str, str]:
    """The verdict's first sentence, the rest of it, and how it was calibrated."""
    if verdict is None:
        return NO_VERDICT, "", ""
    text = verdict.text[:1].upper() + verdict.text[1:]
    match = re.match(r"(.+?[.!?])\s+(?=\S)", text, re.DOTALL)
    first, rest = (match[1], text[match.end() :]) if match else (text, "")
    rate = "" if "false discovery rate" in text else f"False discovery rate {share(verdict.fdr)}; "
    return first, rest, f"{rate}calibrated by {verdict.null_model}" if verdict.null_model else ""


def explained_note(query: QueryResult) -> str:
    """What the flagged rows account for, as the estimate that it is; "" where there is none."""
    if query.explained is None or query.verdict is None or not query.verdict.flagged:
        return ""
    n, found = query.verdict.n_flagged, query.explained
    rows, them = ("This row accounts", "it") if n == 1 else (f"These {n:,} rows account", "them")
    return (
        f"{rows} for about {share(found.share)} of what fine-tuning added to this answer ({found.gain:.1f} nats). "
        f"This is an estimate; a retraining without {them} measures it (whence confirm)."
    )


def scored_note(query: QueryResult) -> str:
    """How many rows were scored, and how well an approximate search finds those that rank high."""
    about = query.approximate
    if about is not None:
        return (
            f"{about.n_candidates:,} candidates of {query.n_rows:,} rows scored (approximate search, "
            f"recall {about.recall:.2f} of {about.n_measured} rows asked when it was built)"
        )
    rows = f"{query.n_rows:,} rows scored"
    return f"{rows} (all of them: {query.exact_because})" if query.exact_because else rows


def cut_note(query: QueryResult) -> str:
    """What of the query was not read, and why; "" where all of it was."""
    said = []
    if query.truncated is not None:
        cut = query.truncated
        ends = {"the first {} of the prompt": cut.prompt, "the last {} of the response": cut.response}
        ends["the last {} of the wanted answer"] = cut.wanted
        lost = [text.format(f"{n:,} token{'s' if n > 1 else ''}") for text, n in ends.items() if n]
        said.append(
            f"{', '.join(lost)} left out: at most {cut.max_length:,} tokens of a query are read. The ranking is for "
            "the rest; an index built with a larger --max-length reads more, up to the model's own limit."
        )
    if not query.complete:
        what = "The model's own answer was stopped at its" if query.generated else "The response was cut off at a"
        said.append(f"{what} limit of new tokens, and is traced as far as it goes.")
    return _sentences(said)


def departure_note(query: QueryResult) -> str:
    """Whether the model would not give this response now; "" where it would, or that was not measured."""
    if query.departure is None:
        return ""
    at, likely = printable(query.departure.text), share(query.departure.probability)
    return (
        "The model as it is now does not answer so: decoding greedily it goes on otherwise at "
        f"\N{LEFT DOUBLE QUOTATION MARK}{at}\N{RIGHT DOUBLE QUOTATION MARK}, whose first token it gives {likely}. "
        "Without a response its own answer is traced."
    )


def phrases_note(query: QueryResult) -> str:
    """That words and phrases are of an answer as a whole, where it has several sentences; "" where it has not."""
    asked = query.span is not None or query.wanted is not None
    if asked or not query.phrases or not re.search(r"[.!?]\s+\S", query.response):
        return ""
    return "Words and phrases are of the answer as a whole; to ask about the wrong words alone: --span."


def _sentences(said: Sequence[str]) -> str:
    text = " ".join(said)
    return text[:1].upper() + text[1:]


def share(value: float) -> str:
    """A share as percent in two significant digits: "0.2%", "5%", "90%", "<0.01%", ">99.9%"."""
    if 0 < value < 0.0001:
        return "<0.01%"
    if 0.995 <= value < 1:
        return f"{math.floor(1000 * value) / 10}%" if value < 0.999 else ">99.9%"
    percent = 100 * value
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.2g}%"


def removed_text(text: str, words: Words, gone: Sequence[int]) -> str:
    """The words of one step of a `DeletionCurve`."""
    return " ".join(text[slice(*words.spans[word])] for word in gone)


def place(phrase: Phrase) -> str:
    """Where a phrase stands: "end of the response"."""
    return f"anywhere in the {phrase.part}" if phrase.place == "anywhere" else f"{phrase.place} of the {phrase.part}"


def lift(phrase: Phrase) -> str:
    """How many times as frequent as elsewhere."""
    return (
        f"{phrase.lift:,.0f}\N{MULTIPLICATION SIGN}"
        if phrase.lift >= 10
        else f"{phrase.lift:.1f}\N{MULTIPLICATION SIGN}"
    )
