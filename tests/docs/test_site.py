"""What the site is made of: every page is in its menu, every command and public name on its reference pages."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

import whence
from whence.cli.main import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "reference" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]
    listed = re.findall(r": (\S+\.md)$", menu, flags=re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_command_line_page_has_every_command_and_option() -> None:
    page = _module("commands").on_page_markdown((DOCS / "reference" / "cli.md").read_text("utf-8"))
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"## `whence {name}`" in page
        for option in (param.opts[-1] for param in command.params if param.opts[0].startswith("-")):
            assert option in page, f"{name} {option}"


def test_the_changelog_page_links_to_pages_as_they_are_from_it() -> None:
    page = _module("commands").on_page_markdown((DOCS / "changelog.md").read_text("utf-8"))
    linked = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]*\.md[^)]*)\)", page)]
    assert len(linked) > 10
    assert all((DOCS / link).is_file() for link in linked)


def test_the_python_page_has_every_public_name() -> None:
    listed = re.findall(r"^::: whence\.(\w+)$", (DOCS / "reference" / "python.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(whence.__all__)


def test_descriptions_of_names_become_a_list() -> None:
    pytest.importorskip("griffe", reason="the extra `docs` is not installed")
    as_list = _module("docstrings").as_list
    text = "Does it.\n\nmodel: a folder,\n    or a name.\nk, n: numbers.\n\nRaises:\n    InputError: none."
    assert as_list(text) == (
        "Does it.\n\n- **model**: a folder,\n    or a name.\n- **k, n**: numbers.\n\nRaises:\n    InputError: none."
    )


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name)
def test_a_page_says_nothing_of_what_is_outside_the_repository(page: Path) -> None:
    text = page.read_text("utf-8")
    # Wherever this checkout lies, its folder and the one around it stand in no page.
    outside = "|".join(re.escape(f"{folder}/") for folder in (ROOT, ROOT.parent) if folder != Path(folder.anchor))
    assert not re.search(rf"\.\./shared|/tmp/|/home/|{outside}", text)
