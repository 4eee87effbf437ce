"""A result as text for the terminal, Markdown, one page or a notebook's cell; knows results and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.report.audit_html import render_audit_page
    from whence.report.audit_markdown import render_audit_markdown
    from whence.report.audit_terminal import render_audit, render_audit_text
    from whence.report.audit_wording import groups_note, push_note, rate_note, source_note, trigger_note
    from whence.report.html import render_page
    from whence.report.markdown import render_markdown
    from whence.report.notebook import render_html
    from whence.report.plotting import check_plot, plot_layers, plot_trace
    from whence.report.printable import visible
    from whence.report.summary import render_summary
    from whence.report.terminal import render_query, render_text
    from whence.report.tracking import check_tool, log_result

__all__ = [
    "check_plot",
    "check_tool",
    "groups_note",
    "log_result",
    "plot_layers",
    "plot_trace",
    "push_note",
    "rate_note",
    "render_audit",
    "render_audit_markdown",
    "render_audit_page",
    "render_audit_text",
    "render_html",
    "render_markdown",
    "render_page",
    "render_query",
    "render_summary",
    "render_text",
    "source_note",
    "trigger_note",
    "visible",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "audit_html": ["render_audit_page"],
        "audit_markdown": ["render_audit_markdown"],
        "audit_terminal": ["render_audit", "render_audit_text"],
        "audit_wording": ["groups_note", "push_note", "rate_note", "source_note", "trigger_note"],
        "html": ["render_page"],
        "markdown": ["render_markdown"],
        "notebook": ["render_html"],
        "plotting": ["check_plot", "plot_layers", "plot_trace"],
        "printable": ["visible"],
        "summary": ["render_summary"],
        "terminal": ["render_query", "render_text"],
        "tracking": ["check_tool", "log_result"],
    },
)
