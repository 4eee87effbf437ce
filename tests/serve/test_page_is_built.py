"""The page in the package is what its sources say: the build wrote their hashes, and these are compared."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import whence
from whence.data import TRAINER_COLUMNS
from whence.report.audit_wording import NOT_FLAGGED, not_flagged_note
from whence.results.labels import LABEL_COLUMNS, LONGEST_LABEL

STATIC = Path(whence.__file__).parent / "serve" / "static"
ROOT = STATIC.parents[3]
PAGE = ROOT / "page"
MOST_BYTES = 300_000
"""Of script and style together."""


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_page_is_built_from_its_sources() -> None:
    known = json.loads((STATIC / "built.json").read_text("utf-8"))
    sources = {f"page/src/{path.name}" for path in (PAGE / "src").iterdir()}
    sources |= {f"page/{name}" for name in ("index.html", "package.json", "package-lock.json", "tsconfig.json")}
    sources |= {"page/vite.config.ts"}
    sources |= {f"src/whence/report/templates/{name}" for name in ("audit.css", "page.css", "shading.js")}
    found = {name: hash_of(ROOT / name) for name in sources}
    assert known["sources"] == found, "the sources have changed: npm run build in page/"
    assert known["built"] == {name: hash_of(STATIC / name) for name in ("index.html", "page.css", "page.js")}


def test_the_page_is_small_and_asks_no_other_site() -> None:
    files = [path for path in STATIC.iterdir() if path.suffix in (".js", ".css", ".html")]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    index = (STATIC / "index.html").read_text("utf-8")
    assert "http" not in index
    assert "<script>" not in index
    assert "<style" not in index
    for path in files:
        assert "http://" not in path.read_text("utf-8").replace("http://www.w3.org/", "")
    for source in (PAGE / "src").iterdir():
        assert "innerhtml" not in source.read_text("utf-8").lower(), source.name


def test_the_page_says_of_outputs_without_a_flagged_row_what_an_audit_says() -> None:
    script = (STATIC / "page.js").read_text("utf-8")
    assert f'children:"{NOT_FLAGGED}"' in script
    assert not_flagged_note(1).partition(" at this rate. ")[2] in script


def test_the_page_hides_the_columns_that_reports_hide() -> None:
    source = (PAGE / "src" / "labels.ts").read_text("utf-8")

    def listed(name: str) -> list[str]:
        found = re.search(rf"^export const {name} = \[(.*?)\];", source, re.DOTALL | re.MULTILINE)
        assert found
        return re.findall('"([^"]+)"', found[1])

    assert listed("TRAINER_COLUMNS") == sorted(TRAINER_COLUMNS)
    assert listed("LABEL_COLUMNS") == [*LABEL_COLUMNS]
    assert f"LONGEST_LABEL = {LONGEST_LABEL};" in source
