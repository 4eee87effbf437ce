"""A trace in a few lines of Markdown, for a pull request: the verdict on each output, and the rows to look at."""

from __future__ import annotations

from collections.abc import Iterator

from whence.report.markdown import code, named_code, prose, table
from whence.report.wording import NO_VERDICT, headline
from whence.results import Hit, QueryResult, TraceResult

MOST_QUERIES, MOST_ROWS = 20, 10
"""Shown of each; the rest is counted. A comment on GitHub may have 65,536 characters."""


def render_summary(result: TraceResult, *, show_text: bool = True) -> str:
    """A headline, a table of the outputs with their verdicts, and the flagged rows that most verdicts share.

    show_text: False leaves out the texts of training rows.
    """
    flagged = _flagged(result)
    n_found = sum(bool(query.verdict and query.verdict.flagged) for query in result)
    outputs = _counted(len(result.queries), "output")
    # The verdicts of several queries share rows by id, so copies of a text count once.
    copies = any(query.verdict and query.verdict.n_flagged > len(query.verdict.flagged) for query in result)
    what = "different training row" if copies else "training row"
    untested = sum(not _tested(query) for query in result)
    heading = f"{_counted(len(flagged), what)} flagged for {n_found} of {outputs}"
    if untested:
        none = f"no verdict for {untested} of {outputs}"
        heading = none if untested == len(result.queries) else f"{heading}; {none}"
    lines = [f"### whence: {heading}", ""]
    shown = result.queries[:MOST_QUERIES]
    lines += table(("output", "verdict", "flagged"), [_output(query) for query in shown])
    if left := len(result.queries) - len(shown):
        lines += ["", f"{_counted(left, 'more output')}."]
    if flagged:
        lines += ["", *_rows(result, flagged, show_text)]
    lines += ["", "A flagged row is a candidate. Only a retraining without the rows shows whether they are a cause."]
    about = {"model": result.model, "adapter": result.adapter, "index": result.index}
    lines += ["", ", ".join(f"{name} {named_code(value)}" for name, value in about.items() if value)]
    # A lone surrogate, which JSON may carry, has no UTF-8 form.
    return "\n".join(lines).encode("utf-16", "surrogatepass").decode("utf-16", "replace") + "\n"


def _flagged(result: TraceResult) -> dict[str, int]:
    """Id of a flagged row -> by how many verdicts, most first; equal ones in the order of the verdicts."""
    counts: dict[str, int] = {}
    for query in result:
        for id in query.verdict.flagged if query.verdict else ():
            counts[id] = counts.get(id, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _output(query: QueryResult) -> tuple[str, str, str]:
    verdict = headline(query.verdict)[0] if query.verdict else NO_VERDICT.partition(":")[0] + "."
    n = str(query.verdict.n_flagged) if query.verdict and _tested(query) else ""
    return f"{code(query.prompt, 80)} {code(query.response, 80)}", prose(verdict), n


def _tested(query: QueryResult) -> bool:
    return query.verdict is not None and bool(query.verdict.null_model)


def _rows(result: TraceResult, flagged: dict[str, int], show_text: bool) -> Iterator[str]:
    best: dict[str, Hit] = {}
    for hit in (hit for query in result for hit in query.hits):
        if hit.id not in best or hit.score > best[hit.id].score:
            best[hit.id] = hit
    known = [id for id in flagged if id in best]
    shown = sorted(known, key=lambda id: (-flagged[id], -best[id].score))[:MOST_ROWS]
    yield from table(
        ("row", "flagged for", "score", *(["prompt", "response"] if show_text else [])),
        [_row(best[id], f"{flagged[id]} of {len(result.queries)}", show_text) for id in shown],
    )
    if left := len(flagged) - len(shown):
        yield from ("", f"{_counted(left, 'more flagged row')}.")


def _row(hit: Hit, votes: str, show_text: bool) -> tuple[str, ...]:
    place = f"{named_code(f'{hit.file}:{hit.line}')} {named_code(hit.id)}" if hit.file else named_code(hit.id)
    texts = (code(hit.prompt, 80), code(hit.response, 80)) if show_text else ()
    return place, votes, f"{hit.score:.4f}", *texts


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")
