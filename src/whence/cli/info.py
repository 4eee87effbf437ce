"""`whence info`: what an index is, and what happened to it."""

from __future__ import annotations

import typer

from whence.cli import options


def info(index: options.IndexFolder) -> None:
    """Say what an index was made from, how large it is, and how its rows changed."""
    from whence.index import require_manifest, size_of

    manifest = require_manifest(index)
    counts = manifest.counts
    lines = [("index", f"{index}, {manifest.status}"), ("model", manifest.model)]
    if manifest.adapter:
        lines.append(("adapter", manifest.adapter))
    lines += [("base", manifest.base or "none"), ("number format", manifest.dtype)]
    lines.append(("vectors", ", ".join(f"{one.name} at layer {one.layer}" for one in manifest.vectors)))
    if counts is not None:
        lines.append(("rows", f"{counts.n_rows:,}, {counts.n_records:,} records, {counts.n_rejected:,} set aside"))
    lines.append(("on disk", f"{size_of(index) / 1e6:,.1f} MB"))
    for change in manifest.history:
        source = f" from {change.data.source}" if change.data is not None else ""
        lines.append((change.change, f"{change.when} {change.n_rows:,} rows{source}, model {change.model}".strip()))
    for name, text in lines:
        typer.echo(f"{name:13} {text}")
