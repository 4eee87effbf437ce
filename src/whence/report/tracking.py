"""A trace in the tool that keeps a team's runs: Weights & Biases, MLflow or TensorBoard.

Each is set up as it is everywhere else: WANDB_PROJECT, WANDB_MODE=offline; MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME;
TENSORBOARD_LOGGING_DIR. A run that is open in this process is used and left open; else one is made and ended.

Logged are, for each query (the step is its number, from 0), the rows flagged and the best score; the scores by rank;
and the page, which TensorBoard, having none, gets as Markdown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from whence.errors import InputError, install_extra
from whence.report.html import render_page
from whence.report.summary import render_summary
from whence.results import QueryResult, TraceResult

MOST_CURVES = 20
"""Queries whose scores by rank are logged as a curve each."""


def check_tool(tool: str) -> None:
    """Raises InputError for an unknown tool, and for one that is not installed."""
    if tool not in TOOLS:
        raise InputError(f"--log {tool!r} is unknown.", f"Expected {', '.join(TOOLS)}.", "Give one of these.")
    if find_spec(tool) is None:
        raise InputError(f"{tool} is not installed.", f"--log {tool} needs it.", install_extra(tool))


def log_result(result: TraceResult, tool: str, *, show_text: bool = True) -> str:
    """Logs the result; returns the place, as the tool names it.

    tool: `wandb`, `mlflow` or `tensorboard`. show_text: as for the page.

    Raises InputError: an unknown tool, one that is not installed, or one that cannot log, with what it says.
    """
    check_tool(tool)
    shown = result if show_text else result.without_text()
    return TOOLS[tool](shown, render_page(result, show_text=show_text))


def query_figures(query: QueryResult) -> dict[str, float]:
    """name -> value of what is logged of a query: `flagged` (without a verdict left out), `top_score`, `n_rows`."""
    said = query.verdict
    figures = {"flagged": float(said.n_flagged)} if said is not None and said.null_model else {}
    if query.hits:
        figures["top_score"] = query.hits[0].score
    return figures | {"n_rows": float(query.n_rows)}


def _about(result: TraceResult) -> dict[str, str]:
    first = result.queries[0]
    about = {"index": result.index, "model": result.model, "adapter": result.adapter or ""}
    return about | {"method": f"{first.method} {first.method_version}", "layer": first.layer}


def _curves(result: TraceResult) -> Iterator[tuple[int, int, float]]:
    """(number of the query, rank, score) of the first queries."""
    for number, query in enumerate(result.queries[:MOST_CURVES]):
        for hit in query.hits:
            yield number, hit.rank, hit.score


def _wandb(result: TraceResult, page: str) -> str:
    import wandb

    opened = wandb.run is None
    try:
        run = wandb.run or wandb.init(job_type="whence-trace", config={"whence": _about(result)})
        for number, query in enumerate(result):
            run.log({"whence/query": number, **{f"whence/{k}": v for k, v in query_figures(query).items()}})
        columns = ["query", "rank", "score", "flagged", "id", "file", "line", "prompt", "response"]
        table = wandb.Table(columns=columns)
        for number, query in enumerate(result):
            flagged = set(query.verdict.flagged) if query.verdict else set()
            for hit in query.hits:
                where = (hit.id, hit.file, hit.line)
                table.add_data(number, hit.rank, hit.score, hit.id in flagged, *where, hit.prompt, hit.response)
        # inject would put a style sheet of its own into the page.
        run.log({"whence/hits": table, "whence/page": wandb.Html(page, inject=False)})
        place = str(run.url or run.dir)
        if opened:
            run.finish()
    except wandb.Error as error:
        raise _cannot(
            "wandb", error, "Log in with `wandb login`, or set WANDB_MODE=offline and give the trace again."
        ) from error
    return place


def _mlflow(result: TraceResult, page: str) -> str:
    import mlflow
    from mlflow.exceptions import MlflowException

    opened = mlflow.active_run() is None
    try:
        run = mlflow.active_run() or mlflow.start_run(run_name="whence trace")
        mlflow.log_params({f"whence.{name}": value for name, value in _about(result).items()})
        for number, query in enumerate(result):
            mlflow.log_metrics({f"whence.{k}": v for k, v in query_figures(query).items()}, step=number)
        for number, rank, score in _curves(result):
            mlflow.log_metric(f"whence.score_by_rank.query_{number}", score, step=rank)
        mlflow.log_text(page, "whence/trace.html")
        mlflow.log_text(result.to_json(), "whence/trace.json")
        place = str(run.info.artifact_uri)
        if opened:
            mlflow.end_run()
    except MlflowException as error:
        raise _cannot("mlflow", error, "Check MLFLOW_TRACKING_URI, and give the trace again.") from error
    return place


def _tensorboard(result: TraceResult, page: str) -> str:
    from torch.utils.tensorboard import SummaryWriter

    try:
        with SummaryWriter(os.environ.get("TENSORBOARD_LOGGING_DIR")) as writer:
            for number, query in enumerate(result):
                for name, value in query_figures(query).items():
                    writer.add_scalar(f"whence/{name}", value, number)
            for number, rank, score in _curves(result):
                writer.add_scalar(f"whence_score_by_rank/query_{number}", score, rank)
            writer.add_text("whence/summary", render_summary(result))
            return str(writer.log_dir)
    except OSError as error:
        raise _cannot("tensorboard", error, "Set TENSORBOARD_LOGGING_DIR to a folder that can be written.") from error


def _cannot(tool: str, error: Exception, advice: str) -> InputError:
    return InputError(f"{tool} cannot log the trace: {error}".rstrip("."), f"{tool} set up to log.", advice)


TOOLS: dict[str, Callable[[TraceResult, str], str]] = {
    "wandb": _wandb,
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
}


__all__ = ["TOOLS", "check_tool", "log_result", "query_figures"]
