"""`whence trace` as a person types it: verdict, span, wanted answer, words, pages, and what is refused."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest

from traced_world import N_FAULTY, PROMPT, RESPONSE, TracedWorld, TracedWorlds
from whence.results.trace_result import TraceResult
from worlds import save_model, write_jsonl

ASK = ("-p", PROMPT, "-r", RESPONSE)


@pytest.fixture(scope="module")
def full(traced_worlds: TracedWorlds) -> TracedWorld:
    """A full fine-tune; the run.yaml beside its model names the base."""
    return traced_worlds.own("full", lora=False)


@pytest.fixture(scope="module")
def lora(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("lora", lora=True)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences are not broken."""
    monkeypatch.setenv("COLUMNS", "160")


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_verdict_comes_first_and_marks_its_rows(whence, kind: str, request: pytest.FixtureRequest) -> None:
    world: TracedWorld = request.getfixturevalue(kind)
    status, shown, _ = whence("trace", world.index, *ASK, "-k", 14)
    lines = shown.splitlines()
    assert status == 0
    assert lines[0] == f"{N_FAULTY} rows flagged (false discovery rate 5%); they are marked * below."
    assert sum(line.lstrip().startswith("* ") for line in lines) == N_FAULTY
    assert "What else could explain it: " in shown
    assert lines[-2].startswith("Each row is a candidate")


def test_fewer_rows_than_stand_out(whence, full: TracedWorld) -> None:
    shown = whence("trace", full.index, *ASK, "-k", 3)[1]
    assert shown.splitlines()[0].endswith("; 3 of them are marked * below.")


def test_no_confident_cause_is_said_as_plainly(whence, full: TracedWorld) -> None:
    shown = whence("trace", full.index, "-p", "Name fruit 7", "-r", "pears")[1]
    assert shown.startswith("No row flagged")
    assert "* " not in shown


def test_a_base_that_is_nowhere_leaves_ranks_only(whence, full: TracedWorld, tmp_path: Path) -> None:
    model, index = tmp_path / "model", tmp_path / "index"
    shutil.copytree(full.model, model, ignore=shutil.ignore_patterns("run.yaml"))
    build = ("index", model, full.data, "-o", index, "--layer", "1,last", "--max-length", 64)
    _, _, said = whence(*build)
    assert "Without the model before it (--base) there are no verdicts" in said
    shown = whence("trace", index, *ASK)[1]
    assert shown.startswith("No verdict, ranks only: log-likelihood gains cannot be measured without the base model.")
    assert "rept-centred 6" in shown
    assert whence("trace", index, *ASK, "--base", full.base)[1].startswith(f"{N_FAULTY} rows flagged")
    status, _, said = whence("trace", index, *ASK, "--method", "rept-contrast")
    assert status == 2
    assert "this index was built without one" in said
    assert "Compared with" in whence(*build, "--base", full.base, "--overwrite")[2]
    shown = whence("trace", index, *ASK)[1]
    assert shown.startswith(f"{N_FAULTY} rows flagged")
    assert "rept-contrast 7" in shown


def test_the_indexs_base_is_looked_for_and_checked(whence, full: TracedWorld, tmp_path: Path) -> None:
    shutil.copytree(full.index, tmp_path / "index")
    place = tmp_path / "index" / "manifest.json"
    manifest = json.loads(place.read_text("utf-8"))
    del manifest["digest"]
    manifest["settings"]["base"] = str(tmp_path / "gone")
    place.write_text(json.dumps(manifest), "utf-8")
    status, _, said = whence("trace", tmp_path / "index", *ASK)
    assert status == 2
    assert "gone" in said
    assert whence("trace", tmp_path / "index", *ASK, "--base", full.base)[0] == 0
    other = tmp_path / "other"
    save_model(other, num_hidden_layers=2)
    status, _, said = whence("trace", tmp_path / "index", *ASK, "--base", other)
    assert status == 2
    assert "is not the base that the index was built with" in said


def test_a_layer_is_asked_where_all_is_held_and_what_is_missing_can_be_added(
    whence, full: TracedWorld, tmp_path: Path
) -> None:
    assert "rept-contrast 7, layer 2" in whence("trace", full.index, *ASK, "--layer", 2, "--no-verdict")[1]
    index = tmp_path / "index"
    shutil.copytree(full.index, index)
    ask = ("trace", index, *ASK, "--layer", 1, "--no-verdict")
    status, _, said = whence(*ask)
    assert status == 2
    assert "The index has no layer 1" in said
    build = ("index", full.model, full.data, "-o", index, "--base", full.base, "--max-length", 64)
    added = whence(*build, "--add", "rept-contrast", "--layer", 1)[2]
    assert "Adding h at layer 1, eh at layer 1, dm at layer 1" in added
    assert "rept-contrast 7, layer 1" in whence(*ask)[1]
    assert "Adding g at layer 1" in whence(*build, "--add", "rept")[2]
    assert "rept 1, layer 1" in whence("trace", index, *ASK, "--method", "rept", "--no-verdict")[1]


def test_no_verdict_on_request(whence, full: TracedWorld) -> None:
    shown = whence("trace", full.index, *ASK, "--no-verdict")[1]
    assert shown.startswith("asked")
    assert "candidate" in shown


def test_span_wanted_and_words(whence, full: TracedWorld) -> None:
    shown = whence("trace", full.index, *ASK, "--span", "wind", "--words", 3)[1]
    assert "about     wind" in shown
    assert "rept-contrast 7+rerank 4" in shown
    assert "These rows share: " in shown
    shown = whence("trace", full.index, *ASK, "--wanted", "plums")[1]
    assert "wanted    plums" in shown
    assert "These rows share" not in shown
    assert "about     t" in whence("trace", full.index, *ASK, "--span-tokens", "0:1")[1]


def test_pages_are_written_with_words_and_verdict(whence, full: TracedWorld, tmp_path: Path) -> None:
    html, markdown, out = tmp_path / "r.html", tmp_path / "r.md", tmp_path / "r.json"
    words = ["--html", html, "--markdown", markdown, "--json", out]
    status, shown, _ = whence("trace", full.index, *ASK, "--span", "wind", *words)
    assert status == 0
    assert [f"written: {path}" in shown for path in (html, markdown, out)] == [True] * 3
    (query,) = json.loads(out.read_text("utf-8"))["queries"]
    assert [hit["words"] is not None for hit in query["hits"]] == [True] * 10
    assert query["span"] == [RESPONSE.index("wind"), RESPONSE.index("wind") + 4]
    assert len(query["verdict"]["flagged"]) == N_FAULTY
    for path in (html, markdown):
        text = path.read_text("utf-8")
        assert f"{N_FAULTY} rows flagged" in text
        assert "Where is boat" in text


def test_no_text_holds_for_pages_too(whence, full: TracedWorld, tmp_path: Path) -> None:
    html, markdown = tmp_path / "r.html", tmp_path / "r.md"
    words = ["--html", html, "--markdown", markdown, "--no-text"]
    status, shown, _ = whence("trace", full.index, "-p", "Where is boat 77", "-r", RESPONSE, *words)
    assert status == 0
    for text in (shown, html.read_text("utf-8"), markdown.read_text("utf-8")):
        assert "boat 77" in text
        assert not any(f"boat {i}" in text for i in range(N_FAULTY) if i != 7)


def test_references_of_the_user(whence, full: TracedWorld, tmp_path: Path) -> None:
    many = write_jsonl(tmp_path / "many.jsonl", [{"prompt": f"Name fruit {i}"} for i in range(45)])
    few = write_jsonl(tmp_path / "few.jsonl", [{"prompt": "Name fruit 1"}])
    assert whence("trace", full.index, *ASK, "--references", many)[1].startswith(f"{N_FAULTY} rows flagged")
    shown = whence("trace", full.index, *ASK, "--references", few)[1]
    assert shown.startswith("No verdict, ranks only: 1 reference queries are too few to calibrate with, 40 are needed.")


def test_a_report_that_cannot_be_written_loses_nothing_written(
    whence, full: TracedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: TraceResult, path: Path, **options: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(TraceResult, "to_html", broken)
    out = tmp_path / "r.json"
    status, _, said = whence("trace", full.index, *ASK, "--json", out, "--html", tmp_path / "r.html")
    assert (status, said.count("Error:")) == (2, 1)
    assert json.loads(out.read_text("utf-8"))["queries"][0]["verdict"]["flagged"]


BAD = [
    (["--span", "Korea"], r"The response has no 'Korea'", "The closest:"),
    (["--span", "sea"], "has 'sea' 2 times", "--span 'sea#1'"),
    (["--span", "sea#3"], "no occurrence 3 of 'sea'", "from 1 to 2"),
    (["--span", ""], "The span is empty", "--span"),
    (["--span-tokens", "3"], "--span-tokens '3' cannot be read", "--span-tokens 3:5"),
    (["--span-tokens", "5:2"], "There are no tokens 5:2", "--span-tokens between"),
    (["--wanted", " "], "The wanted answer is empty", "--wanted"),
    (["--wanted", RESPONSE], "The wanted answer is the bad one", "--wanted"),
    (["--wanted", "a", "--span", "wind"], "--span and --wanted were given", "Leave the others out"),
    (["--fdr", "2"], "A false discovery rate of 2.0", "--fdr 0.05"),
    (["--references", "{tmp}/none.jsonl"], "no query file", "Check the path"),
    (["--base", "{model}"], "is the fine-tuned model itself", "--base"),
    (["--base", "{tmp}/none"], "There is no model folder", "Check the path"),
    (["--html", "{tmp}/none/r.html"], "There is no folder", "--html writes"),
    (["--markdown", "{tmp}"], "is a folder", "--markdown writes a file"),
]


@pytest.mark.parametrize(("words", "found", "fix"), BAD, ids=[" ".join(words) for words, _, _ in BAD])
def test_bad_input(whence, full: TracedWorld, tmp_path: Path, words: list[str], found: str, fix: str) -> None:
    places = {"tmp": tmp_path, "model": full.model}
    status, _, said = whence("trace", full.index, *ASK, *(word.format(**places) for word in words))
    assert status == 2
    assert found in said
    assert fix in said
    assert said.count("Error:") == 1
    assert list(tmp_path.iterdir()) == []


def test_confirm_and_clean_are_commands(whence, full: TracedWorld, tmp_path: Path) -> None:
    trace, out = tmp_path / "t.json", tmp_path / "cleaned.jsonl"
    assert whence("trace", full.index, *ASK, "--json", trace, "-q")[0] == 0
    assert whence("clean", full.index, "--trace", trace, "-o", out, "-q")[0] == 0
    assert "boat" not in out.read_text("utf-8")
    back = tmp_path / "back.jsonl"
    assert whence("clean", "--undo", tmp_path / "manifest.json", "-o", back, "-q")[0] == 0
    assert back.read_bytes() == full.data.read_bytes()
    queries = write_jsonl(tmp_path / "bad.jsonl", [{"prompt": PROMPT, "response": RESPONSE}])
    (tmp_path / "manifest.json").unlink()
    out.unlink()
    assert whence("clean", full.index, "--queries", queries, "-o", out, "-q")[0] == 0
    assert "boat" not in out.read_text("utf-8")
    assert whence("confirm", "--help")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--log", "comet"), "--log 'comet' is unknown"),
        (("--plot", "scores.pdf"), "ends in .pdf"),
        (("--plot", "nowhere/scores.svg"), "There is no folder"),
        (("--summary", "-"), "--summary - is not possible here"),
        (("--html", "-"), "--html - is not possible here"),
    ],
)
def test_outputs_that_cannot_be_are_named_before_the_work(whence, full: TracedWorld, words, message: str) -> None:
    status, shown, said = whence("trace", full.index, *ASK, *words)
    assert (status, shown) == (2, "")
    assert message in said


def test_a_summary_and_a_picture(whence, full: TracedWorld, tmp_path: Path) -> None:
    summary, plot = tmp_path / "pr.md", tmp_path / "scores.svg"
    status, shown, _ = whence("trace", full.index, *ASK, "--summary", summary, "--plot", plot)
    assert status == 0
    assert f"written: {plot}" in shown
    assert summary.read_text("utf-8").startswith(f"### whence: {N_FAULTY} training rows flagged for 1 of 1 output\n")
    text = plot.read_text("utf-8")
    assert "this answer" in text
    assert "not flagged" in text


def test_no_output_replaces_the_queries(whence, full: TracedWorld, tmp_path: Path) -> None:
    queries = write_jsonl(tmp_path / "bad.jsonl", [{"prompt": PROMPT, "response": RESPONSE}])
    before = queries.read_bytes()
    for command in (["trace", full.index], ["eval", full.index, "--label-column", "label"]):
        status, _, error = whence(*command, "--queries", queries, "--json", queries)
        assert status == 2
        assert "is the file of --queries too" in error
    assert queries.read_bytes() == before


def test_a_trace_that_cannot_be_written_is_shown(
    whence, full: TracedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(self: TraceResult, *args: object, **options: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded", str(tmp_path / "t.html"))

    monkeypatch.setattr(TraceResult, "to_html", no_room)
    page = tmp_path / "t.html"
    status, out, error = whence("trace", full.index, *ASK, "--no-verdict", "--html", page)
    assert status == 2
    assert "Disk quota exceeded" in error
    assert "Make room" in error
    assert "score" in out
