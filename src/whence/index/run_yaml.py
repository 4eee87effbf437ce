"""run.yaml of an index: the settings that replay its build."""

from __future__ import annotations

from pathlib import Path

from whence.files import write_atomically
from whence.index.manifest import RUN, Manifest


def write_run(folder: Path, manifest: Manifest) -> None:
    """Writes run.yaml: the settings that replay the build, and what they led to."""
    import yaml

    content = {
        "command": "build_index",
        "settings": manifest.settings | ({"date": manifest.rows.date} if manifest.rows.date else {}),
        "resolved": {
            "layer": manifest.layer,
            "vectors": [vector.column for vector in manifest.vectors],
            "dtype": manifest.dtype,
            "precision": manifest.precision,
            "dimensions": manifest.dimensions,
            "date": manifest.rows.date,
        },
        "hashes": manifest.hashes.model_dump(),
        "data": manifest.data.model_dump(),
        "versions": manifest.versions,
    }
    write_atomically(folder / RUN, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


__all__ = ["write_run"]
