"""The tables of a bench as Markdown, from its rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from statistics import fmean, stdev

from whence.bench.rows import ResultRow

MEANS = (
    ("ap", "AP"),
    ("precision", "P@k"),
    ("recall", "R@k"),
    ("mrr", "MRR"),
    ("auc_hard", "AUC hard"),
    ("pooled", "pooled"),
    ("top", "top"),
)
LEGEND = """\
AP: average precision over the full ranking, mean over queries, then over seeds (± standard deviation over seeds, where
there are several); the best of a column is bold. mean: over the tasks that the method could do. fit: seconds of
indexing, ask: seconds a query, each as if the method ran alone. bytes: kept of a row. peak: memory that the method
added at its highest. P@k, R@k: precision and recall at k. MRR: 1 / rank of the first faulty row. AUC hard: chance that
a faulty row stands above a hard negative. pooled: the paper's form, which looks at every query's k first rows only and
flatters. top: how far the first row lies above the mean, in standard deviations of a query's scores. chance: what
a random order gets on average. [n]: a hole; its reason is in the list at the end.
"""


def markdown(rows: Sequence[ResultRow], title: str = "Report of whence bench", *, is_part: bool = False) -> str:
    """The report: for each variant a table of average precision by task with costs beside, and one of all figures.

    is_part: whether it stands in a report that says itself which rows another version of whence measured.
    """
    notes: dict[str, int] = {}
    measured = {
        f"{row['task']} {row['variant']} seed {row['seed']}, `{row['method']}`": row.get("versions") for row in rows
    }
    parts = [f"# {title}", _about(rows), *([] if is_part else other_versions(measured)), LEGEND]
    for variant in _values(rows, "variant"):
        mine = [row for row in rows if row["variant"] == variant]
        parts += [f"## {variant}", _quality(mine, notes), "Means over tasks and seeds:", _means(mine)]
    if notes:
        parts += ["## Holes", "\n".join(f"{number}. {reason}" for reason, number in notes.items())]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _about(rows: Sequence[ResultRow]) -> str:
    first = rows[0]
    seeds = ", ".join(_values(rows, "seed"))
    k = next((row["k"] for row in rows if row.get("k")), "k")
    shuffled = " **Labels were shuffled: every method must be at chance.**" if first["shuffled"] else ""
    kinds = {
        name: {str(_mapping(row.get("versions")).get(name)): None for row in rows}
        for name in _mapping(first["versions"])
    }
    versions = ", ".join(f"{name} {' and '.join(numbers)}" for name, numbers in kinds.items())
    cases = {(row["task"], row["variant"], row["seed"]): row for row in rows if "n_queries" in row}
    asked = "; ".join(
        f"{task} {variant} {row['n_queries']}/{row['n_asked']}" + (f" (seed {seed})" if "," in seeds else "")
        for (task, variant, seed), row in cases.items()
    )
    return (
        f"Seeds {seeds}; k = {k}; {first['threads']} threads; {versions}.{shuffled}\n\n"
        f"Held-out answers that show the fault, of those asked: {asked or 'none'}.{_given(list(cases.values()))}"
    )


def other_versions(measured: Mapping[str, object]) -> list[str]:
    """A paragraph for each other version of whence than the one that runs, which measured something; often none.

    measured: what was measured, by name, and the versions that stand in its row.
    """
    running, found = version("whence"), dict[str, list[str]]()
    for name, versions in measured.items():
        found.setdefault(str(_mapping(versions).get("whence", "of an unknown version")), []).append(name)
    return [
        f"**Measured by whence {other}, not by {running}, which runs now and may count otherwise: {'; '.join(names)}.**"
        for other, names in found.items()
        if other != running
    ]


def _given(cases: Sequence[ResultRow]) -> str:
    """What became of the prompts of a data set of the user's own; of the cases made here nothing."""
    given = [row for row in cases if "n_base_shows" in row]
    if not given:
        return ""
    before = ", ".join(str(row["n_base_shows"]) for row in given)
    said = f" Prompts where the base shows it already are not counted: {before}."
    left_out = given[0]["n_trained_prompts"]
    return said + (f" Prompts that are trained on were left out: {left_out}." if left_out else "")


def _quality(rows: Sequence[ResultRow], notes: dict[str, int]) -> str:
    tasks, methods = _values(rows, "task"), _ordered(rows)
    best = {task: max((_mean(_where(rows, task, m), "ap") or 0.0 for m in methods), default=0.0) for task in tasks}
    lines = [["method", *tasks, "mean", "fit, s", "ask, s", "bytes", "peak, MB"]]
    for method in methods:
        mine = [row for row in rows if row["method"] == method]
        cells = [_cell(_where(rows, task, method), best[task], notes) for task in tasks]
        overall = _mean_over_tasks(mine, "ap")
        costs = [
            _number(_mean(mine, "seconds_fit"), "{:.2f}"),
            _number(_average(mine, _seconds_a_query), "{:.3f}"),
            _number(_mean(mine, "bytes_per_row"), "{:,.0f}"),
            _number(_average(mine, _megabytes), "{:,.0f}"),
        ]
        lines.append([f"`{method}`", *cells, _number(overall, "{:.3f}"), *costs])
    chance = [_number(_mean([row for row in rows if row["task"] == task], "chance"), "{:.3f}") for task in tasks]
    lines.append(["chance", *chance, _number(_mean_over_tasks(rows, "chance"), "{:.3f}"), "", "", "", ""])
    return table(lines)


def _means(rows: Sequence[ResultRow]) -> str:
    lines = [["method", *(head for _, head in MEANS)]]
    for method in _ordered(rows):
        mine = [row for row in rows if row["method"] == method]
        lines.append([f"`{method}`", *(_number(_mean_over_tasks(mine, name), "{:.3f}") for name, _ in MEANS)])
    return table(lines)


def _cell(rows: Sequence[ResultRow], best: float, notes: dict[str, int]) -> str:
    """Mean and spread over the seeds, and a mark for each reason of a hole."""
    values = _numbers(rows, "ap")
    marks = []
    for row in rows:
        if row["error"]:
            number = notes.setdefault(str(row["error"]), len(notes) + 1)
            marks.append(f"[{number}]")
    shown = ""
    if values:
        shown = f"{fmean(values):.3f}"
        shown = f"**{shown}**" if fmean(values) == best else shown
        shown += f" ±{stdev(values):.3f}" if len(values) > 1 else ""
    return " ".join([shown, *dict.fromkeys(marks)]).strip()


def _ordered(rows: Sequence[ResultRow]) -> list[str]:
    """Methods by their mean average precision, the best first; those without one last, by name."""
    means = {m: _mean_over_tasks([row for row in rows if row["method"] == m], "ap") for m in _values(rows, "method")}
    return sorted(means, key=lambda m: (means[m] is None, -(means[m] or 0.0), m))


def _where(rows: Sequence[ResultRow], task: str, method: str) -> list[ResultRow]:
    return [row for row in rows if row["task"] == task and row["method"] == method]


def _values(rows: Sequence[ResultRow], name: str) -> list[str]:
    """The different values of a column, in the order in which they come."""
    return [str(value) for value in dict.fromkeys(row[name] for row in rows if not isinstance(row[name], list | dict))]


def _numbers(rows: Sequence[ResultRow], name: str) -> list[float]:
    return [float(value) for row in rows if isinstance(value := row.get(name), int | float)]


def _mean(rows: Sequence[ResultRow], name: str) -> float | None:
    values = _numbers(rows, name)
    return fmean(values) if values else None


def _mean_over_tasks(rows: Sequence[ResultRow], name: str) -> float | None:
    """Each task weighs the same, however many of its seeds have the figure."""
    means = [_mean([row for row in rows if row["task"] == task], name) for task in _values(rows, "task")]
    known = [value for value in means if value is not None]
    return fmean(known) if known else None


def _average(rows: Sequence[ResultRow], of: Callable[[ResultRow], float | None]) -> float | None:
    values = [value for row in rows if (value := of(row)) is not None]
    return fmean(values) if values else None


def _seconds_a_query(row: ResultRow) -> float | None:
    seconds, n = row.get("seconds_score"), row.get("n_queries")
    return float(seconds) / n if isinstance(seconds, int | float) and isinstance(n, int) and n else None


def _megabytes(row: ResultRow) -> float | None:
    peak = row.get("peak_bytes")
    return peak / 1e6 if isinstance(peak, int) else None


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: float | None, shape: str) -> str:
    return "" if value is None else shape.format(value)


def table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first line the head, its first column text and the others numbers."""
    head, *body = lines
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *body))
