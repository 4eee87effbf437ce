"""What is released: a wheel with all of whence and nothing else, and a version that comes from git's tags."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools_scm")

ROOT = Path(__file__).parents[2]
LARGEST = 2_000_000
"""Bytes of the wheel."""
BUILD = "from setuptools.build_meta import build_{0} as build; import sys; print(build(sys.argv[1]))"
SCM = ("SETUPTOOLS_SCM_", "GIT_")
"""Variables that would say a version, or another repository."""


def build(kind: str, source: Path, out: Path) -> Path:
    """The `wheel` or `sdist` of a copy of the sources, built by the back end that pyproject.toml names."""
    out.mkdir(exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(SCM)}
    words = [sys.executable, "-c", BUILD.format(kind), str(out)]
    done = subprocess.run(words, cwd=source, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.split()[-1]


def copied(place: Path) -> Path:
    """The sources as a download of them has them: without git, without what a build leaves behind."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")
    shutil.copytree(ROOT / "src", place / "src", ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, place)
    return place


def git(place: Path, *words: str) -> None:
    identity = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the sources whose last commit is tagged."""
    place = copied(tmp_path_factory.mktemp("tagged"))
    git(place, "init", "--quiet")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "-m", "Everything")
    git(place, "tag", "v1.2.3")
    return place


@pytest.fixture(scope="module")
def sdist(tagged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of the tagged repository, unpacked."""
    packed = build("sdist", tagged, tmp_path_factory.mktemp("sdist"))
    assert packed.name == "whence-1.2.3.tar.gz"
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(packed) as file:
        file.extractall(place, filter="data")
    return place / "whence-1.2.3"


def test_a_wheel_from_an_sdist_has_all_of_whence_and_the_tags_version(sdist: Path, tmp_path: Path) -> None:
    wheel = build("wheel", sdist, tmp_path / "out")
    assert wheel.name == "whence-1.2.3-py3-none-any.whl"
    assert wheel.stat().st_size < LARGEST
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        described = file.read("whence-1.2.3.dist-info/METADATA").decode("utf-8")
        called = file.read("whence-1.2.3.dist-info/entry_points.txt").decode("utf-8")
    wanted = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "whence").rglob("*.py")}
    for files in ("whence/report/templates/*", "whence/serve/static/*"):
        wanted |= {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").glob(files)}
    assert {"whence/py.typed", *wanted} == {name for name in names if not name.startswith("whence-1.2.3.dist-info/")}
    assert "whence-1.2.3.dist-info/licenses/LICENSE" in names
    assert "whence = whence.cli.main:main" in called
    assert "Requires-Python: >=3.11" in described
    assert "Description-Content-Type: text/markdown" in described
    assert "pip install -e ." in described
    # A package index shows the README away from the repository: what it links to must be an address.
    assert re.findall(r"\]\((?!https?:)", (ROOT / "README.md").read_text("utf-8"))
    assert re.findall(r"\]\((?!https?:)[^)]*\)", described) == []


def test_without_git_and_without_an_sdist_it_builds_all_the_same(tmp_path: Path) -> None:
    place = copied(tmp_path / "copy")
    shutil.copy2(ROOT / ".git_archival.txt", place)
    script = "from setuptools.build_meta import prepare_metadata_for_build_wheel as prepare; print(prepare('.'))"
    env = {name: value for name, value in os.environ.items() if not name.startswith(SCM)}
    # Nothing above the copy may say a version.
    env["GIT_CEILING_DIRECTORIES"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=place, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    described = (place / done.stdout.split()[-1] / "METADATA").read_text("utf-8")
    assert re.search(r"^Version: 0\.0$", described, re.MULTILINE)


def test_a_git_archive_carries_the_version(tagged: Path) -> None:
    shutil.copy2(ROOT / ".git_archival.txt", tagged)
    shutil.copy2(ROOT / ".gitattributes", tagged)
    git(tagged, "add", ".")
    git(tagged, "commit", "--quiet", "-m", "Archives")
    git(tagged, "tag", "v1.2.4")
    done = subprocess.run(["git", "archive", "HEAD", ".git_archival.txt"], cwd=tagged, check=True, capture_output=True)
    assert b"describe-name: v1.2.4\n" in done.stdout
