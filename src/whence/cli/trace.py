"""`whence trace`: which training rows rank highest for a bad output, which of them are flagged, and by which words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from whence.cli import options
from whence.cli.outputs import check_outputs, files_of, hand_out, is_standard_output
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import print_json, printer
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.results import TraceResult
    from whence.trace import Query, TraceOptions

EXPLAINED_IN_A_PAGE = 10
"""Hits whose words a page shows unless --words says otherwise."""


def trace(
    index: options.IndexFolder,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="What the model was asked.")] = None,
    response: Annotated[
        str | None, typer.Option("--response", "-r", help="What it said. Left out, the model answers now.")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="The system text the model was given.")] = None,
    tools: Annotated[Path | None, typer.Option("--tools", help="JSON list of the tools the model was given.")] = None,
    queries: Annotated[
        Path | None,
        typer.Option("--queries", help='Rows like the training data, {"prompt", "response"}, or an evaluation log.'),
    ] = None,
    failed: options.Failed = False,
    query_where: options.QueryWhere = None,
    query_prompts: options.QueryPrompts = None,
    span: Annotated[
        str | None, typer.Option("--span", help="The wrong words in the response; Korea#2 is the second Korea.")
    ] = None,
    span_tokens: Annotated[
        str | None, typer.Option("--span-tokens", help="The same by tokens, A:B from 0, B not included.")
    ] = None,
    wanted: Annotated[
        str | None, typer.Option("--wanted", help="The answer that should have been given instead.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", min=1, help="Rows to show for each query.")] = 10,
    words: Annotated[
        int | None,
        typer.Option("--words", min=0, help="Explain the words of the first N rows; 10 with --html, else 0."),
    ] = None,
    deletion: Annotated[
        bool, typer.Option("--deletion", help="Also the score without these words, deleted in turn; takes longer.")
    ] = False,
    method: options.ScoreMethod = None,
    weight: Annotated[float | None, typer.Option("--weight", help="Share of h in rept-balanced, 0 to 1.")] = None,
    layer: Annotated[int | None, typer.Option("--layer", help="One of the index's layers for both halves.")] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="SQL condition on columns, as in \"source = 'vendor_b'\".")
    ] = None,
    recall: Annotated[
        float | None, typer.Option("--recall", help="Score candidates alone, with this recall; see whence ann build.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Score every row, as without --recall.")] = False,
    no_verdict: Annotated[bool, typer.Option("--no-verdict", help="Ranks only: flag no rows.")] = False,
    fdr: Annotated[float, typer.Option("--fdr", help="False discovery rate of the verdict.")] = 0.05,
    references: Annotated[
        Path | None,
        typer.Option(
            "--references", help="JSONL of at least 40 ordinary prompts for the model to answer, to calibrate with."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The model before fine-tuning, for a verdict without an adapter.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Where the index's model is now, if it moved.")] = None,
    adapter: Annotated[str | None, typer.Option("--adapter", "-a", help="Where its adapter is now.")] = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one self-contained page.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the same as Markdown.")] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", help="Write a short Markdown summary, for a pull request.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw scores by rank and the verdict's comparison: .svg or .png.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON; - for standard output.")
    ] = None,
    log: Annotated[
        str | None, typer.Option("--log", help="Log scores and page to wandb, mlflow or tensorboard.")
    ] = None,
    no_text: Annotated[
        bool,
        typer.Option("--no-text", help="Places and scores only: no text of the rows, not in what is written either."),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Rank the training rows behind a bad output, and flag candidate causes."""
    chosen = _Chosen(failed, query_where, query_prompts)
    asked = _queries(index, prompt, response, queries, system, tools, chosen, quiet=quiet)
    outputs = {"--json": json, "--html": html, "--markdown": markdown, "--summary": summary, "--plot": plot}
    inputs = {"--queries": queries, "--references": references, "--query-prompts": query_prompts, "--tools": tools}
    check_outputs(outputs, quiet=quiet and log is None, inputs=inputs | files_of(index))
    # Standard output takes the JSON alone.
    others = {name: path for name, path in outputs.items() if name != "--json"}
    check_outputs(others, quiet=False, standard_output=False)
    _check_tools(log, plot)
    wishes: TraceOptions = {
        "k": k,
        "where": where,
        "weight": weight,
        "layer": layer,
        "span": span,
        "span_tokens": _token_range(span_tokens),
        "wanted": wanted,
        "words": (EXPLAINED_IN_A_PAGE if html is not None else 0) if words is None else words,
        "deletion": deletion,
        "verdict": not no_verdict,
        "fdr": fdr,
        "recall": None if exact else recall,
    }
    if method is not None:
        wishes["method"] = method
    if references is not None:
        wishes["references"] = options.queries_of(index, references, quiet=quiet)
    from whence.trace import Tracer, TraceSettings

    # What cannot be is said before a model is loaded.
    TraceSettings(**wishes).check_number(len(asked))
    placed = options.placement(device, device_map, max_memory)
    quiet_libraries()
    found_base = base if no_verdict else options.base_of(index, base, adapter)
    options.tell_index(index, quiet=quiet)
    tracer = Tracer(index, model=model, adapter=adapter, base=found_base, device=placed)
    with stages("queries", quiet=quiet) as report:
        result = tracer.trace_many(asked, progress=report, **wishes)
    places: list[Path | str] = []

    def show() -> None:
        if is_standard_output(json):
            print_json(result.to_json(show_text=not no_text))
        else:
            _show(result, places, texts=not no_text)

    writers = _writers(result, outputs, log, places, show_text=not no_text)
    hand_out(writers, show, quiet=quiet and not is_standard_output(json))


class _Chosen(NamedTuple):
    """Which rows of --queries are asked, and the file that has a batch's prompts."""

    failed: bool = False
    where: str | None = None
    prompts: Path | None = None


def _queries(
    index: Path,
    prompt: str | None,
    response: str | None,
    queries: Path | None,
    system: str | None,
    tools: Path | None,
    chosen: _Chosen,
    *,
    quiet: bool,
) -> list[Query]:
    if (prompt is None) == (queries is None):
        raise InputError(
            "Both --prompt and --queries were given."
            if prompt is not None
            else "Neither --prompt nor --queries was given.",
            "A trace needs one of them.",
            'Give --prompt "..." --response "...", or --queries bad.jsonl.',
        )
    if queries is not None:
        for name, value in {"response": response, "system": system, "tools": tools}.items():
            if value is not None:
                raise InputError(
                    f"--{name} with --queries.", f"Each row of --queries has its own {name}.", "Leave it out."
                )
        return options.queries_of(
            index, queries, quiet=quiet, failed=chosen.failed, where=chosen.where, prompts=chosen.prompts
        )
    if chosen != _Chosen():
        raise InputError(
            "--failed, --query-where or --query-prompts with --prompt.", "They choose among the rows of --queries.", ""
        )
    assert prompt is not None
    _check_no_file(prompt)
    return [options.query_of(index, prompt, response, system, tools, quiet=quiet)]


def _check_no_file(prompt: str) -> None:
    """Raises InputError for a prompt that is the path of a file here."""
    try:
        is_file = bool(Path(prompt).suffix) and Path(prompt).is_file()
    except (OSError, ValueError):  # longer than a path can be
        return
    if is_file:
        raise InputError(
            f"--prompt is the prompt's text, and {prompt} is a file.",
            "Expected what the model was asked.",
            f"Did you mean --queries {prompt}?",
        )


def _token_range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if not (found := re.fullmatch(r"(\d{1,18}):(\d{1,18})", text.strip())):
        raise InputError(
            f"--span-tokens {text!r} cannot be read.",
            "Expected A:B, two numbers: the response's tokens A, A+1, ..., B-1, counted from 0.",
            "For example --span-tokens 3:5.",
        )
    return int(found[1]), int(found[2])


def _check_tools(log: str | None, plot: Path | None) -> None:
    """A tool that cannot be logged to, or a picture that cannot be drawn, is named before the work, not after it."""
    if log is not None or plot is not None:
        from whence.report import check_plot, check_tool

        if log is not None:
            check_tool(log)
        if plot is not None:
            check_plot(plot)


def _writers(
    result: TraceResult,
    outputs: Mapping[str, Path | None],
    log: str | None,
    places: list[Path | str],
    *,
    show_text: bool,
) -> Iterator[Callable[[], None]]:
    """What writes each output. places: gets those that are written."""
    from whence.report import log_result, plot_trace

    writers: dict[str, Callable[[Path], object]] = {
        "--json": partial(result.to_json, show_text=show_text),
        "--html": partial(result.to_html, show_text=show_text),
        "--markdown": partial(result.to_markdown, show_text=show_text),
        "--summary": partial(result.to_summary, show_text=show_text),
        "--plot": partial(plot_trace, result),
    }

    def write(name: str, path: Path) -> None:
        writers[name](path)
        places.append(path)

    for name, path in outputs.items():
        if path is not None and not (name == "--json" and is_standard_output(path)):
            yield partial(write, name, path)
    if log is not None:
        yield lambda: places.append(log_result(result, log, show_text=show_text))


def _show(result: TraceResult, places: Sequence[Path | str], *, texts: bool) -> None:
    from whence.report import render_query

    console = printer()
    for query in result:
        for part in render_query(query, texts=texts):
            console.print(part)
        console.print()
    for place in places:
        console.print(f"written: {place}", highlight=False, markup=False, soft_wrap=True)
