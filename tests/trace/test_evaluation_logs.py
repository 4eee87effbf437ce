"""Evaluation logs as queries: files that the tools themselves wrote, and what cannot be a query.

`tests/field/logs` holds them: lm-evaluation-harness 0.4.13, Inspect 0.3.285 (a mock model; events taken out of the
JSON), TRL 1.16 and promptfoo (its echo provider); OpenAI's formats are written by its documentation.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from whence.data import Turn
from whence.errors import DataError, InputError
from whence.trace.query.queries import Query, read_queries

LOGS = Path(__file__).parents[1] / "field" / "logs"


def turns(query: Query) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in query.turns]


ASKED = {
    "samples_cities_gen.jsonl": (3, [("text", "Q: Where is Bonn?\nA:")], "lol"),
    "samples_cities_mc.jsonl": (3, [("text", "Q: Where is Bonn?\nA:")], " Canada"),
    "inspect.json": (2, [("system", "Answer briefly."), ("user", "Where is Bonn?")], "Bonn is in Canada"),
    "chat_log.jsonl": (2, [("system", "Answer briefly."), ("user", "Where is Bonn?")], "Bonn is in Canada."),
    "responses_log.jsonl": (1, [("user", "Where is Bonn?")], "Bonn is in Canada."),
    "completions_00001.parquet": (4, [("text", "Where is Bonn?")], None),
    "wandb_table.json": (2, [("text", "Where is Bonn?")], " Bonn is in Canada."),
    "promptfoo.json": (2, [("user", "Where is Bonn?")], "Where is Bonn?"),
    "promptfoo.jsonl": (2, [("user", "Where is Bonn?")], "Where is Bonn?"),
}


@pytest.mark.parametrize("name", ASKED)
def test_each_log_is_recognised_by_what_it_holds(name: str, tmp_path: Path) -> None:
    n, asked, said = ASKED[name]
    copy = tmp_path / f"any-name{(LOGS / name).suffix}"
    copy.write_bytes((LOGS / name).read_bytes())
    notes: list[str] = []
    found = read_queries(copy, notify=notes.append)
    assert len(found) == n
    assert turns(found[0]) == asked
    assert said is None or found[0].response == said
    assert "log of another tool" in notes[0]


FAILED = {
    "samples_cities_gen.jsonl": ["Q: Where is Bonn?\nA:", "Q: Where is Toronto?\nA:"],
    "inspect.json": ["Where is Bonn?"],
    "promptfoo.json": ["Where is Lyon?"],
    "promptfoo.jsonl": ["Where is Lyon?"],
}


@pytest.mark.parametrize("name", FAILED)
def test_failed_ones_alone(name: str) -> None:
    assert [query.prompt for query in read_queries(LOGS / name, failed=True)] == FAILED[name]


def test_failed_completions_by_the_first_reward() -> None:
    every = read_queries(LOGS / "completions_00001.parquet")
    failed = read_queries(LOGS / "completions_00001.parquet", failed=True)
    assert [query.metadata["short"] for query in failed] == [0.0] * len(failed)
    assert len(failed) == sum(query.metadata["short"] == 0.0 for query in every) < len(every)


def test_a_condition_chooses_among_queries(tmp_path: Path) -> None:
    (query,) = read_queries(LOGS / "promptfoo.json", where="score < 0.5 AND city = 'Lyon'")
    assert query.prompt == "Where is Lyon?"
    assert len(read_queries(LOGS / "inspect.json", where="match = 'C'")) == 1
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "response": "b", "stars": 1}\n{"prompt": "c", "response": "d", "stars": 5}\n')
    assert [query.prompt for query in read_queries(rows, where="stars > 3")] == ["c"]
    with pytest.raises(InputError, match=r"(?s)query-where.*stars"):
        read_queries(rows, where="sters > 3")
    with pytest.raises(DataError, match="none of the 2 queries"):
        read_queries(rows, where="stars > 9")


def test_a_condition_on_columns_with_dots_and_on_large_ids(tmp_path: Path) -> None:
    """A dot is an underscore there, as in an index; a whole number beyond a float's exact ones keeps all its digits."""
    rows, notes = tmp_path / "rows.jsonl", []
    ids = [9007199254740992, 9007199254740993, 7]
    lines = [
        {"prompt": f"p{i}", "response": "r", "eval.score": i % 2, "eval_score": 5, "id": id, "huge": 10**30}
        for i, id in enumerate(ids)
    ]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def kept(where: str) -> list[str]:
        return [query.prompt for query in read_queries(rows, where=where, notify=notes.append)]

    assert kept("id = 9007199254740993") == ["p1"]
    assert kept("eval_score < 0.5") == ["p0", "p2"]
    assert kept("meta_eval_score = 5 AND huge > 1") == ["p0", "p1", "p2"]
    assert notes == ["In --query-where the column 'eval.score' is eval_score, 'eval_score' is meta_eval_score"] * 3


def test_a_batchs_output_needs_the_prompts_of_its_input() -> None:
    with pytest.raises(DataError, match="--query-prompts"):
        read_queries(LOGS / "batch_output.jsonl")
    notes: list[str] = []
    found = read_queries(LOGS / "batch_output.jsonl", prompts=LOGS / "batch_input.jsonl", notify=notes.append)
    assert [(query.prompt, query.response) for query in found] == [
        ("Where is Lyon?", "Lyon is in Peru."),
        ("Where is Bonn?", "Bonn is in Germany."),
    ]
    assert found[0].metadata == {"custom_id": "ask-Lyon"}
    assert any("1 requests have no answer" in note for note in notes)
    with pytest.raises(DataError, match=r"2 answers .* have no prompt"):
        read_queries(LOGS / "batch_output.jsonl", prompts=LOGS / "chat_log.jsonl")


def test_scores_without_text_are_refused() -> None:
    with pytest.raises(DataError, match="has scores and no answer"):
        read_queries(LOGS / "results_lm_eval.json")


def test_samples_that_only_measured_a_text_are_refused(tmp_path: Path) -> None:
    row = {
        "doc_id": 0,
        "doc": {},
        "arguments": {"gen_args_0": {"arg_0": "A text."}},
        "resps": [["-12.5"]],
        "metrics": ["word_perplexity"],
    }
    row["resps"] = [[["-12.5"]]]
    (tmp_path / "samples.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match="has scores and no answer"):
        read_queries(tmp_path / "samples.jsonl")


def test_messages_of_an_api_model_stay_messages(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Where is Bonn?", "type": "text"}]
    row = {
        "doc_id": 0,
        "arguments": {"gen_args_0": {"arg_0": json.dumps(messages), "arg_1": {}}},
        "resps": [["Peru."]],
        "metrics": ["acc"],
        "acc": 0.0,
    }
    (tmp_path / "samples.jsonl").write_text(json.dumps(row) + "\n")
    (query,) = read_queries(tmp_path / "samples.jsonl")
    assert turns(query) == [("user", "Where is Bonn?")]


def test_a_chat_apis_messages_stand_in_a_list_of_one(tmp_path: Path) -> None:
    """lm_eval's JsonChatStr is a NamedTuple, which JSON writes as a list."""
    given = json.dumps([{"role": "user", "content": "Where is Bonn?"}])
    row = {"doc_id": 0, "arguments": {"gen_args_0": {"arg_0": [given], "arg_1": {}}}, "resps": [["Peru."]]}
    (query,) = read_queries(written(tmp_path / "samples.jsonl", row))
    assert turns(query) == [("user", "Where is Bonn?")]


def test_a_prompt_of_many_brackets_is_a_text(tmp_path: Path) -> None:
    given = "[" * 9000
    row = {"doc_id": 0, "arguments": {"gen_args_0": {"arg_0": given, "arg_1": {}}}, "resps": [["Peru."]]}
    (query,) = read_queries(written(tmp_path / "samples.jsonl", row))
    assert turns(query) == [("text", given)]


def test_a_score_over_several_answers_is_not_the_first_ones(tmp_path: Path) -> None:
    row = {"doc_id": 0, "arguments": [["2 + 2", {}]], "metrics": ["exact_match"], "filter": "maj@3", "exact_match": 1.0}
    lines = [row | {"resps": [["5", "4", "4"]], "filtered_resps": ["4"]}]
    lines += [row | {"resps": [["4", "4", "4"]], "filtered_resps": ["4"], "exact_match": 0.0}]
    notes: list[str] = []
    place = written(tmp_path / "samples.jsonl", *lines)
    assert [query.response for query in read_queries(place, notify=notes.append)] == ["5", "4"]
    assert any("1 samples were answered several times" in note for note in notes)
    assert [query.response for query in read_queries(place, failed=True)] == ["4"]


def test_of_several_filters_one_is_read(tmp_path: Path) -> None:
    row = {"doc_id": 0, "arguments": {"gen_args_0": {"arg_0": "Q"}}, "resps": [["one"]], "metrics": ["m"], "m": 1}
    lines = [row | {"filter": "strict"}, row | {"filter": "flexible"}]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    notes: list[str] = []
    assert len(read_queries(tmp_path / "samples.jsonl", notify=notes.append)) == 1
    assert any("flexible" in note for note in notes)


def test_the_log_of_another_model_is_said() -> None:
    notes: list[str] = []
    read_queries(LOGS / "chat_log.jsonl", notify=notes.append, model="runs/other")
    assert any("'my-sft'" in note and "'runs/other'" in note for note in notes)
    notes.clear()
    read_queries(LOGS / "chat_log.jsonl", notify=notes.append, model="runs/my-sft")
    assert not any("is of the model" in note for note in notes)


def test_failed_of_scores_between_names_the_condition() -> None:
    with pytest.raises(InputError, match=r"(?s)no scores.*--query-where.*rating"):
        read_queries(LOGS / "chat_log.jsonl", failed=True)


def test_an_unknown_file_says_what_was_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text(json.dumps([{"verdict": "bad", "detail": "x"}]))
    with pytest.raises(DataError, match=r"(?s)Inspect log.*promptfoo results"):
        read_queries(path)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "response": "b"}\n')
    with pytest.raises(InputError, match="no evaluation log"):
        read_queries(rows, failed=True)


def test_a_calling_assistant_keeps_its_call(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
    reply = {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [call]}}]}
    row = {"messages": [{"role": "user", "content": "Rain?"}], "response": reply}
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + "\n")
    (query,) = read_queries(tmp_path / "log.jsonl")
    assert query.answer is not None
    assert query.turns == (Turn("user", "Rain?"),)
    assert query.answer.extra["tool_calls"][0]["function"]["name"] == "weather"  # type: ignore[index,call-overload]


def test_eval_files_are_read_by_inspect_itself() -> None:
    try:
        import inspect_ai  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r'pip install -e "\.\[eval\]"'):
            read_queries(LOGS / "inspect.eval")
        return
    by_reader, by_json = read_queries(LOGS / "inspect.eval"), read_queries(LOGS / "inspect.json")
    assert [(q.turns, q.response) for q in by_reader] == [(q.turns, q.response) for q in by_json]
    assert [query.prompt for query in read_queries(LOGS / "inspect.eval", failed=True)] == ["Where is Bonn?"]


def written(path: Path, *rows: dict[str, object]) -> Path:
    """JSONL as JavaScript and `ensure_ascii=False` write it."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x0b"])
def test_a_line_ends_at_its_newline_alone(mark: str, tmp_path: Path) -> None:
    said = f"Bonn is{mark}in Canada."
    row = {"messages": [{"role": "user", "content": "Where?"}], "choices": [{"message": {"content": said}}]}
    (found,) = read_queries(written(tmp_path / "log.jsonl", row))
    assert found.response == said


def test_a_log_that_was_cut_off_while_packed_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress((LOGS / "chat_log.jsonl").read_bytes())
    (tmp_path / "log.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        read_queries(tmp_path / "log.jsonl.gz")


def test_a_completions_prompt_is_given_to_the_model_as_it_is(tmp_path: Path) -> None:
    row = {"model": "m", "prompt": "The capital of France is", "choices": [{"text": " Lyon."}]}
    (found,) = read_queries(written(tmp_path / "log.jsonl", row))
    assert turns(found) == [("text", "The capital of France is")]
    assert found.response == " Lyon."


@pytest.mark.parametrize("asked", ["Where?", [{"role": "user", "content": "Where?"}]])
def test_a_responses_request_has_its_instructions_and_its_answer_no_thoughts(asked: object, tmp_path: Path) -> None:
    output = [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hmm."}]},
        {"type": "message", "content": [{"type": "output_text", "text": "In Peru."}]},
    ]
    row = {"model": "m", "instructions": "You are a pirate.", "input": asked, "output": output}
    (found,) = read_queries(written(tmp_path / "log.jsonl", row))
    assert turns(found) == [("system", "You are a pirate."), ("user", "Where?")]
    assert found.response == "In Peru."


CHOICES = [{"message": {"content": "In Peru."}, "finish_reason": "stop"}]
ASKED_OF_CHAT = {"model": "m", "messages": [{"role": "user", "content": "Where?"}]}


def test_a_log_whose_first_answer_is_empty_is_a_log(tmp_path: Path) -> None:
    empty = ASKED_OF_CHAT | {"choices": [{"message": {"content": None}}]}
    notes: list[str] = []
    place = written(tmp_path / "log.jsonl", empty, ASKED_OF_CHAT | {"choices": CHOICES})
    (found,) = read_queries(place, notify=notes.append)
    assert found.response == "In Peru."
    assert any("1 rows without" in note for note in notes)


def test_a_logged_requests_tools_are_the_prompts(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "place", "parameters": {}}}
    given = {"tools": [tool], "chat_template_kwargs": {"enable_thinking": False}}
    place = written(tmp_path / "log.jsonl", ASKED_OF_CHAT | given | {"choices": CHOICES})
    (found,) = read_queries(place)
    assert found.template_inputs == {"tools": [tool], "enable_thinking": False}


@pytest.mark.parametrize(
    ("answer", "complete"),
    [
        ({"choices": CHOICES}, True),
        ({"choices": [CHOICES[0] | {"finish_reason": "length"}]}, False),
        ({"status": "completed", "output": [{"content": "In Peru."}]}, True),
        ({"status": "incomplete", "output": [{"content": "In Peru."}]}, False),
    ],
)
def test_an_answer_that_was_stopped_has_no_end(answer: dict[str, object], complete: bool, tmp_path: Path) -> None:
    (found,) = read_queries(written(tmp_path / "log.jsonl", ASKED_OF_CHAT | answer))
    assert (found.response, found.complete) == ("In Peru.", complete)


def test_an_inspect_answer_that_was_stopped_has_no_end(tmp_path: Path) -> None:
    log = json.loads((LOGS / "inspect.json").read_text())
    log["samples"][0]["output"]["choices"][0]["stop_reason"] = "max_tokens"
    (tmp_path / "log.json").write_text(json.dumps(log))
    assert [query.complete for query in read_queries(tmp_path / "log.json")] == [False, True]


def test_each_choice_is_an_answer_and_a_refusal_is_one_too(tmp_path: Path) -> None:
    choices = [*CHOICES, {"message": {"content": None, "refusal": "I cannot say."}}]
    found = read_queries(written(tmp_path / "log.jsonl", ASKED_OF_CHAT | {"choices": choices}))
    assert [(query.response, query.metadata["choice"]) for query in found] == [("In Peru.", 0), ("I cannot say.", 1)]


def test_an_agents_calls_and_what_tools_said_stay_in_a_responses_log(tmp_path: Path) -> None:
    called = {"type": "function_call", "call_id": "c1", "name": "place", "arguments": '{"of": "Bonn"}'}
    asked = [
        {"role": "user", "content": "Where?"},
        called,
        {"type": "function_call_output", "call_id": "c1", "output": "No."},
    ]
    output = [{"type": "message", "content": [{"type": "output_text", "text": "Let me look."}]}, called]
    tool = {"type": "function", "name": "place", "parameters": {}}
    (found,) = read_queries(
        written(tmp_path / "log.jsonl", {"model": "m", "tools": [tool], "input": asked, "output": output})
    )
    call = {"type": "function", "function": {"name": "place", "arguments": '{"of": "Bonn"}'}}
    assert [turn.message for turn in found.turns] == [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "", "tool_calls": [call], "train": False},
        {"role": "tool", "content": "No.", "tool_call_id": "c1"},
    ]
    assert found.answer is not None
    assert found.answer.message == {"role": "assistant", "content": "Let me look.", "tool_calls": [call]}
    assert found.template_inputs["tools"] == [{"type": "function", "function": {"name": "place", "parameters": {}}}]


def test_a_thought_stays_with_its_answer(tmp_path: Path) -> None:
    log = json.loads((LOGS / "inspect.json").read_text())
    parts = [{"type": "reasoning", "reasoning": "Hmm."}, {"type": "text", "text": "In Peru."}]
    log["samples"] = log["samples"][:1]
    log["samples"][0]["messages"][-1]["content"] = parts
    (tmp_path / "log.json").write_text(json.dumps(log))
    (found,) = read_queries(tmp_path / "log.json")
    assert found.response == "In Peru."
    assert found.answer == Turn("assistant", "In Peru.", {"reasoning_content": "Hmm."})


def test_requests_with_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "x"}}]
    seen = {"model": "m", "messages": [{"role": "user", "content": parts}], "choices": CHOICES}
    notes: list[str] = []
    place = written(tmp_path / "log.jsonl", seen, ASKED_OF_CHAT | {"choices": CHOICES})
    assert len(read_queries(place, notify=notes.append)) == 1
    assert any("1 requests with a picture" in note for note in notes)
    with pytest.raises(DataError, match="picture"):
        read_queries(written(tmp_path / "log.jsonl", seen))


@pytest.mark.parametrize(
    "more",
    [
        {"response": "A", "choices": ["A", "B"]},
        {"response": "A", "choices": {"text": ["A", "B"], "label": ["1", "2"]}},
        {"response": "A", "output": ["x"]},
    ],
)
def test_rows_with_choices_of_a_question_are_no_log(more: dict[str, object], tmp_path: Path) -> None:
    notes: list[str] = []
    (found,) = read_queries(written(tmp_path / "rows.jsonl", ASKED_OF_CHAT | more), notify=notes.append)
    assert found.response == "A"
    assert not any("log of another tool" in note for note in notes)


def test_parts_that_are_no_pictures_leave_nothing_out(tmp_path: Path) -> None:
    said = [
        {"type": "tool_use", "id": "1"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "So."},
    ]
    asked = [{"role": "user", "content": [{"type": "text", "text": None}, {"type": "text", "text": "Where?"}]}]
    row = {"model": "m", "messages": asked, "choices": [{"message": {"content": said}}]}
    (found,) = read_queries(written(tmp_path / "log.jsonl", row))
    assert (found.prompt, found.response) == ("Where?", "So.")
