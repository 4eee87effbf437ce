"""Queries from the command line to the reports: what is asked, what was cut, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny import tiny_model, tiny_tokenizer
from whence.index.build import build_index
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer
from worlds import World, rows, save_model, write_jsonl

MAX_LENGTH = 64
TEXTS = [f"Place {i} is by the sea. The wind is in the north of place {i}." for i in range(12)]
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
TEMPLATE = (
    "{% if tools %}<|tools|>\n{{ tools | tojson }}<|end|>\n{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A model whose rows are plain text."""
    folder = tmp_path_factory.mktemp("plain")
    model, data = save_model(folder / "model"), write_jsonl(folder / "rows.jsonl", [{"text": text} for text in TEXTS])
    build_index(model, data, folder / "index", layers=["last"], methods=["rept"], max_length=MAX_LENGTH)
    return World(model, data, folder / "index")


@pytest.fixture(scope="module")
def tooled(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A model whose template knows tools, trained on rows with a system text, tools and calls of them."""
    folder = tmp_path_factory.mktemp("tooled")
    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer(TEMPLATE).save_pretrained(folder / "model")
    call = [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}]
    content: list[dict[str, object]] = [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"Where is place {i}?"},
                {
                    "role": "assistant",
                    "content": "" if i % 2 else f"In the sea {i}.",
                    **({"tool_calls": call} if i % 2 else {}),
                },
            ],
            "tools": TOOLS,
        }
        for i in range(12)
    ]
    data = write_jsonl(folder / "rows.jsonl", content)
    build_index(folder / "model", data, folder / "index", layers=["last"], methods=["rept"], max_length=512)
    return World(folder / "model", data, folder / "index")


def traced(whence, *words: object) -> dict[str, object]:
    status, shown, _ = whence("trace", *words, "--no-verdict", "--json", "-", "--method", "rept")
    assert status == 0
    (query,) = json.loads(shown)["queries"]
    return query


# -- kind 3 --------------------------------------------------------------------------------------------


def test_system_and_tools_of_the_command_line_reach_the_template(whence, tooled: World, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(TOOLS), encoding="utf-8")
    ask = ("-p", "Where is place 4?", "-r", "In the sea 4.")
    own = traced(whence, tooled.index, *ask, "--system", "Be brief.", "--tools", tools)
    without = traced(whence, tooled.index, *ask)
    assert own["hits"][0]["line"] == 5
    assert own["hits"][0]["score"] == pytest.approx(1, abs=1e-3)  # the row itself: stored in float16
    assert without["hits"][0]["score"] < own["hits"][0]["score"] - 0.01


def test_a_row_with_a_tool_call_asked_about_finds_itself(whence, tooled: World, tmp_path: Path) -> None:
    row = tooled.data.read_text("utf-8").splitlines()[7]
    path = tmp_path / "bad.jsonl"
    path.write_text(row + "\n", encoding="utf-8")
    found = traced(whence, tooled.index, "--queries", path)
    assert found["response"] == '<call>{"name": "weather", "arguments": {"city": "Bonn"}}</call>'
    hit = found["hits"][0]
    assert (hit["line"], hit["response"]) == (8, found["response"])
    assert hit["score"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("method", ["bare", "text", "role"])
def test_a_model_of_plain_text_is_asked_in_plain_text(whence, plain: World, tmp_path: Path, method: str) -> None:
    prompt, response = TEXTS[3][:24], TEXTS[3][24:]
    asked = {
        "bare": {"prompt": prompt, "response": response},
        "text": {"text": TEXTS[3], "response_start": 24},
        "role": {"prompt": [{"role": "text", "content": prompt}], "response": response},
    }[method]
    path = write_jsonl(tmp_path / "q.jsonl", [asked])
    status, shown, said = whence("trace", plain.index, "--queries", path, "--no-verdict", "--json", "-")
    assert status == 0
    assert ("read as plain text, without the chat template" in said) == (method == "bare")
    (found,) = json.loads(shown)["queries"]
    assert (found["prompt"], found["response"]) == (prompt, response)
    if method == "bare":
        assert whence("trace", plain.index, "-p", prompt, "-r", response, "--no-verdict", "--json", "-")[1] == shown


def test_bare_prompts_have_the_tokens_of_plain_rows_and_messages_keep_the_template(plain: World) -> None:
    tracer = Tracer(plain.index, device="cpu")
    (row,) = tracer.encoder.encode(next(iter(tracer.index.examples([3]))))
    bare, chat = tracer.as_rows(
        [Query.of(TEXTS[3][:24], TEXTS[3][24:]), Query.of([{"role": "user", "content": TEXTS[3][:24]}], TEXTS[3][24:])]
    )
    assert bare.encode(tracer.encoder).input_ids == row.input_ids
    assert chat.encode(tracer.encoder).text.startswith("<|user|>\n")
    assert tracer.trace(TEXTS[3][:24], verdict=False).queries[0].generated


def test_the_index_of_a_conversation_keeps_its_template(world: World) -> None:
    assert not world.open().manifest.data.is_plain_text
    (query,) = Tracer(world.index, device="cpu").as_rows([Query.of("Where?", "In Korea.")])
    assert query.turns[0].role == "user"


def test_columns_of_the_index_are_read_in_queries(whence, world: World, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "t.jsonl", [{"q": row["prompt"], "a": row["response"]} for row in rows()])
    index = tmp_path / "index"
    assert (
        whence(
            "index",
            world.model,
            data,
            "-o",
            index,
            "--columns",
            "prompt=q,response=a",
            "--layer",
            "last",
            "--methods",
            "rept",
        )[0]
        == 0
    )
    path = write_jsonl(tmp_path / "q.jsonl", [{"q": "Where is place 3?", "a": rows()[3]["response"]}])
    assert traced(whence, index, "--queries", path)["hits"][0]["score"] == pytest.approx(1, abs=1e-3)


def test_columns_without_use_are_named_on_screen(whence, world: World, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "q.jsonl", [{"prompt": "Where?", "response": "In Korea.", "context": "A city."}])
    status, _, said = whence("trace", world.index, "--queries", path, "--no-verdict")
    assert status == 0
    assert "Not used in the queries, kept as metadata: column 'context'" in said
    assert "Not used" not in whence("trace", world.index, "--queries", path, "--no-verdict", "-q", "--json", "-")[2]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--queries", "q.jsonl", "--system", "x"), "--system with --queries"),
        (("--queries", "q.jsonl", "--tools", "t.json"), "--tools with --queries"),
        (("--queries", "q.jsonl", "-r", "x"), "--response with --queries"),
        (("--queries", "empty.jsonl"), "holds no query"),
        (("--queries", "none.jsonl"), "There is no query file"),
        (("--queries", "bad.jsonl"), "bad.jsonl:2: The response is empty"),
        (("-p", "a", "--tools", "none.json"), "There is no file of tools"),
        (("-p", "a", "--tools", "empty.jsonl"), "is no JSON"),
        (("-p", "a", "--tools", "q.jsonl"), "holds no list of tools"),
        (("-p", " "), "The prompt is empty"),
        (("-p", "a", "-r", ""), "The response is empty"),
        (("-r", "a"), "Neither --prompt nor --queries"),
    ],
)
def test_bad_input_ends_with_status_2_and_three_parts(
    whence, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "q.jsonl", [{"prompt": "a", "response": "b"}])
    write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "a", "response": "b"}, {"prompt": "a", "response": " "}])
    (tmp_path / "empty.jsonl").write_text("")
    status, shown, said = whence("trace", world.index, *words)
    assert (status, shown) == (2, "")
    assert found in said.splitlines()[0]
    assert len(said.splitlines()) == 3
    assert "Traceback" not in said


# -- kind 4 --------------------------------------------------------------------------------------------


def test_what_was_cut_is_said_on_the_terminal_in_json_in_markdown_and_on_the_page(
    whence, world: World, tmp_path: Path
) -> None:
    prompt, response = "Where is Toronto? " * 20, "Toronto is in Canada. " * 40
    outputs = [tmp_path / f"r.{suffix}" for suffix in ("json", "html", "md")]
    options = zip(("--json", "--html", "--markdown"), outputs, strict=True)
    words = [word for option in options for word in option]
    status, shown, _ = whence("trace", world.index, "-p", prompt, "-r", response, "--no-verdict", *words, "--words", 0)
    assert status == 0
    encoder = Tracer(world.index, device="cpu").encoder
    turn = Query.of(prompt, response).encode(encoder)
    assert (turn.n_prompt, turn.n_response) == (MAX_LENGTH // 4, MAX_LENGTH - MAX_LENGTH // 4)
    cut = {"prompt": turn.truncated_prompt, "response": turn.truncated - turn.truncated_prompt}
    whole = Query.of(prompt, response)
    encoder.max_length = 10_000
    uncut = whole.encode(encoder)
    assert cut == {"prompt": uncut.n_prompt - turn.n_prompt, "response": uncut.n_response - turn.n_response}
    (query,) = json.loads(outputs[0].read_text("utf-8"))["queries"]
    assert query["truncated"] == {**cut, "max_length": MAX_LENGTH, "wanted": 0}
    assert query["complete"] is True
    sentence = (
        f"The first {cut['prompt']} tokens of the prompt, the last {cut['response']} tokens of the response left out"
    )
    for text in (shown, *(path.read_text("utf-8") for path in outputs[1:])):
        assert sentence in text
        assert f"at most {MAX_LENGTH} tokens" in text


def test_a_wanted_answer_that_was_cut_is_said(whence, world: World) -> None:
    found = traced(whence, world.index, "-p", "Where?", "-r", "In Korea.", "--wanted", "In Canada, by the sea. " * 40)
    assert found["truncated"]["wanted"] > 0
    assert (found["truncated"]["prompt"], found["truncated"]["response"]) == (0, 0)


def test_where_nothing_was_cut_nothing_is_said(whence, world: World) -> None:
    status, shown, _ = whence("trace", world.index, "-p", "Where?", "-r", "In Korea.", "--no-verdict")
    assert status == 0
    assert "left out" not in shown
    found = traced(whence, world.index, "-p", "Where?", "-r", "In Korea.")
    assert (found["truncated"], found["complete"]) == (None, True)


def test_an_answer_that_was_stopped_is_said(whence, world: World) -> None:
    found = traced(whence, world.index, "-p", "Where is place 3?")
    (query,) = Tracer(world.index, device="cpu").trace("Where is place 3?", verdict=False).queries
    assert found["complete"] is query.complete is False
    assert "stopped at its limit" in whence("trace", world.index, "-p", "Where is place 3?", "--no-verdict")[1]


def test_joiners_are_shown_and_what_steers_is_not(whence, world: World, tmp_path: Path) -> None:
    family, persian = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    page = tmp_path / "r.html"
    words = ("-p", f"{family} {persian}", "-r", "a\u202eb\x1b[31mc", "--no-verdict", "--html", page, "--words", 0)
    status, shown, _ = whence("trace", world.index, *words)
    assert status == 0
    for text in (shown, page.read_text("utf-8")):
        assert family in text
        assert persian in text
        assert "\u202e" not in text
        assert "\x1b" not in text
