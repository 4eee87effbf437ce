"""The tables of a bench on a given base as Markdown, from the cases' results alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whence.bench.rows import FIGURES, ResultRow
from whence.bench.tables import markdown, other_versions, table
from whence.metrics import shown

COUNTS = (
    ("n_faulty", "faulty"),
    ("n_hard", "hard"),
    ("n_asked", "asked"),
    ("n_shown", "show it"),
    ("n_base_shows", "base shows it"),
    ("n_queries", "queries"),
    ("n_benign", "benign"),
)
VERDICTS = (
    ("flagged", "bad answers with flagged rows"),
    ("found", "faulty rows found"),
    ("false_discovery_rate", "flagged rows not faulty"),
    ("benign", "benign answers with flagged rows"),
)
LEGEND = """\
Cases: faulty rows and hard negatives among the rows; held-out prompts asked, answers that show the fault, answers of
the base that show it already (these prompts are dropped), queries that are left, benign answers. Verdicts: at a false
discovery rate of 5%, means over queries with 95% bootstrap intervals; faulty rows found are of one query.
"""


def planted_markdown(results: Sequence[ResultRow], title: str = "Report of whence bench on a given base") -> str:
    """The report: what each case is, its verdicts, and for each share and variant the tables of every form."""
    parts = [
        f"# {title}",
        _about(results),
        *other_versions({f"{result['case']} on {_subject(result)}": result.get("versions") for result in results}),
        *_other_figures(results),
        LEGEND.strip(),
        "## Cases",
        _cases(results),
        "## Verdicts",
        _verdicts(results),
    ]
    several = len({_subject(result) for result in results}) > 1
    rows = [row for result in results for row in method_rows(result, by_subject=several)]
    if rows:
        parts.append(
            markdown(rows, "Rankings", is_part=True).replace("\n## ", "\n### ").replace("# Rankings", "## Rankings", 1)
        )
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def method_rows(result: ResultRow, *, by_subject: bool = False) -> list[ResultRow]:
    """A result as rows of `whence bench`, one a method; none where the case is not counted.

    by_subject: whether results on different bases, or fine-tuned in different ways, stand in tables of their own.
    """
    common = {
        "task": result["fault"],
        "variant": f"{result['table']}, {_subject(result)}" if by_subject else result["table"],
        "shuffled": False,
        **{name: result.get(name) for name in ("seed", "threads", "versions", "error", "n_asked", "n_queries")},
    }
    methods = result.get("methods")
    return [common | row for row in methods if isinstance(row, dict)] if isinstance(methods, list) else []


def _other_figures(results: Sequence[ResultRow]) -> list[str]:
    """A paragraph with the kept cases whose figures another version counted; often none."""
    names = [
        f"{result['case']} on {_subject(result)}" for result in results if result.get("figures_version") != FIGURES
    ]
    if not names:
        return []
    return [
        f"**Figures that another version of whence counted, which may take rows with equal scores otherwise: "
        f"{'; '.join(names)}. Remove their `result.json` to have them counted again, without training.**"
    ]


def _subject(result: ResultRow) -> str:
    """What was trained, and how: the base's name, and whether with an adapter."""
    settings = result.get("settings")
    tuning = settings.get("finetune") if isinstance(settings, dict) else None
    full = isinstance(tuning, dict) and tuning.get("lora_r") is None
    return f"{Path(str(result['base'])).name}{', every weight trained' if full else ''}"


def _about(results: Sequence[ResultRow]) -> str:
    bases = ", ".join(f"`{base}`" for base in dict.fromkeys(str(result["base"]) for result in results))
    said = [f"Base: {bases}."]
    if any(result.get("template") == "fallback" for result in results):
        said.append("The base has no chat template: whence's plain one was used.")
    if any(result["n_lessons"] for result in results):
        said.append("For compliance the base was first trained to decline.")
    return " ".join(said)


def _cases(results: Sequence[ResultRow]) -> str:
    lines = [["case", "base", *(head for _, head in COUNTS), "train, s", "index, s", "not counted"]]
    for result in results:
        counts = [str(result.get(name, "")) for name, _ in COUNTS]
        seconds = [str(result.get(name, "")) for name in ("seconds_finetune", "seconds_index")]
        lines.append([str(result["case"]), _subject(result), *counts, *seconds, str(result["error"] or "")])
    return table(lines)


def _verdicts(results: Sequence[ResultRow]) -> str:
    lines = [["case", "base", *(head for _, head in VERDICTS)]]
    for result in results:
        verdicts = result.get("verdicts")
        if isinstance(verdicts, dict):
            lines.append([str(result["case"]), _subject(result), *(_interval(verdicts, name) for name, _ in VERDICTS)])
    return table(lines) if len(lines) > 1 else "No case has verdicts."


def _interval(figures: ResultRow, name: str) -> str:
    mean, low, high = (figures.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if not isinstance(mean, int | float):
        return str(figures.get("error", ""))
    n = float(str(figures["n_benign" if name == "benign" else "n_bad"]))
    if name == "false_discovery_rate":
        n *= float(str(figures["flagged"]))
    return shown(mean, float(str(low)), float(str(high)), round(n), digits=2)
