"""The commands as a person types them, and one message with exit status 2 for whatever is wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from whence.cli.index import _tell_gains
from worlds import World, rows, save_model, write_jsonl

HELP_SECONDS = 0.5


def test_trace_writes_what_it_shows(whence, world: World, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    status, shown, _ = whence(
        "trace", world.index, "--prompt", "Where is place 3?", "--response", "In Korea.", "-k", 3, "--json", out
    )
    assert status == 0
    hits = json.loads(out.read_text("utf-8"))["queries"][0]["hits"]
    assert len(hits) == 3
    assert all(hit["id"] in shown for hit in hits)
    assert "candidate" in shown


def test_trace_quiet_writes_only_the_file(whence, world: World, tmp_path: Path) -> None:
    queries = write_jsonl(
        tmp_path / "bad.jsonl", [{"prompt": f"Where is {i}?", "response": "Korea."} for i in range(3)]
    )
    out = tmp_path / "out.json"
    status, shown, said = whence("trace", world.index, "--queries", queries, "--json", out, "--quiet")
    assert (status, shown, said) == (0, "", "")
    assert [len(query["hits"]) for query in json.loads(out.read_text("utf-8"))["queries"]] == [10, 10, 10]


def test_trace_hides_the_rows_text_on_request(whence, world: World) -> None:
    status, shown, _ = whence("trace", world.index, "-p", "Where?", "-r", "Korea.", "--no-text")
    assert status == 0
    assert "train.jsonl:" in shown
    assert "place" not in shown
    status, shown, _ = whence("trace", world.index, "-p", "Where?", "-r", "Korea.", "--no-text", "--json", "-")
    assert status == 0
    assert "train.jsonl" in shown
    assert "place" not in shown


@pytest.mark.parametrize(("n", "asked"), [(None, False), (5, False), (6, True)])
def test_rows_that_mostly_gained_nothing_are_asked_about(
    n: int | None, asked: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    _tell_gains(SimpleNamespace(n_records=10, n_records_without_gain=lambda: n))  # type: ignore[arg-type]
    said = "6 of 10 answers gained nothing in fine-tuning: are these the rows it was trained on?\n"
    assert capsys.readouterr().err == (said if asked else "")


def test_index_trace_verify_and_layers_from_nothing(whence, tmp_path: Path) -> None:
    model, data = save_model(tmp_path / "model"), write_jsonl(tmp_path / "train.jsonl", rows(9))
    index = tmp_path / "index"
    assert whence("index", model, data, "-o", index, "--layer", "auto", "--layer", "last", "-q") == (0, "", "")
    status, _, said = whence("index", model, data, "-o", index, "--layer", "auto", "--layer", "last")
    assert status == 0
    assert "9 rows: traces give ranks only, a verdict needs 100 rows" in said
    status, shown, _ = whence("verify", index)
    assert (status, "nothing wrong" in shown) == (0, True)
    status, shown, _ = whence("layers", model, data, "--probes", 5)
    assert status == 0
    assert "<- chosen" in shown
    assert "mean of 5 probes" in shown


BAD = [
    (["trace", "{index}"], "Neither --prompt nor --queries"),
    (["trace", "{index}", "-p", "a", "--queries", "x"], "Both --prompt and --queries"),
    (["trace", "{index}", "-p", "a", "-r", " "], "The response is empty"),
    (["trace", "{index}", "-p", " "], "The prompt is empty"),
    (["trace", "{index}", "-p", "{data}"], "Did you mean --queries "),
    (["trace", "{index}", "-p", "a", "-r", "b", "--quiet"], "--quiet without --json"),
    (["trace", "{index}", "-p", "a", "-r", "b", "--json", "{tmp}/none/out.json"], "There is no folder"),
    (["trace", "{index}", "-p", "a", "-r", "b", "--method", "repp"], "Did you mean rept"),
    (["trace", "{index}", "--queries", "{tmp}/none.jsonl"], "no query file"),
    (["trace", "{tmp}/none", "-p", "a", "-r", "b"], "no index at"),
    (["trace", "{tmp}", "-p", "a", "-r", "b"], "is not an index; it holds comma.jsonl"),
    (["index", "{model}", "{tmp}/none.jsonl", "-o", "{tmp}/ix"], "none.jsonl"),
    (["index", "{model}", "{tmp}/empty.jsonl", "-o", "{tmp}/ix"], "empty"),
    (["index", "{model}", "{tmp}/latin.csv", "-o", "{tmp}/ix"], "iconv"),
    (["index", "{model}", "{tmp}/comma.jsonl", "-o", "{tmp}/ix"], "comma.jsonl:7"),
    (["index", "{model}", "{data}", "-o", "{tmp}"], "holds"),
    (["index", "{tmp}", "{data}", "-o", "{tmp}/ix"], "is no model"),
    (["index", "{model}", "{data}", "-o", "{tmp}/ix", "--adapter", "{tmp}"], "is no adapter"),
    (["index", "{model}", "{data}", "-o", "{tmp}/ix", "--dtype", "float7"], "--dtype 'float7'"),
    (["index", "{model}", "{data}", "-o", "{tmp}/ix", "--layer", "top"], "--layer 'top'"),
    (["index", "{model}", "{data}", "-o", "{tmp}/ix", "--layer", "77"], "Layers go from 0"),
    (["index", "{model}", "{data}", "-o", "{tmp}/ix", "--columns", "prompt"], "--columns 'prompt'"),
    (["index", "{model}", "{data}", "-o", "{tmp}/ix", "--template", "{tmp}/none.jinja"], "no template file"),
    (["layers", "{tmp}/none", "{data}"], "no model folder"),
    (["verify", "{tmp}/none"], "no index at"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words)[:60] for words, _ in BAD])
def test_bad_input_is_one_message_and_status_two(
    whence, world: World, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "latin.csv").write_bytes("prompt,response\nWo?,K\xf6ln\n".encode("latin-1"))
    good = json.dumps({"prompt": "a", "response": "b"}) + "\n"
    (tmp_path / "comma.jsonl").write_text(good * 6 + '{"prompt": "a", "response": "b",}\n' + good)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    places = {"index": world.index, "model": world.model, "data": world.data, "tmp": tmp_path}
    status, _, said = whence(*(word.format(**places) for word in words))
    assert status == 2
    assert message in said
    assert said.count("Error:") == 1
    assert "Traceback" not in said
    assert {path: path.read_bytes() for path in before} == before


def test_a_row_with_an_empty_response_is_set_aside_with_its_reason(whence, world: World, tmp_path: Path) -> None:
    content = [*rows(40), {"prompt": "Why?", "response": "", "label": "clean", "source": "vendor_a"}]
    data = write_jsonl(tmp_path / "train.jsonl", content)
    status, _, said = whence("index", world.model, data, "-o", tmp_path / "ix", "--layer", "last")
    assert status == 0
    assert "1 rows were set aside" in said
    (rejected,) = [json.loads(line) for line in (tmp_path / "ix" / "rejected.jsonl").read_text("utf-8").splitlines()]
    assert rejected["line"] == 41
    assert "empty response" in rejected["reason"]


def test_a_foreign_adapter(whence, world: World, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from tiny import tiny_model

    get_peft_model(tiny_model("llama", hidden_size=64), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
        tmp_path / "lora"
    )
    status, _, said = whence("index", world.model, world.data, "-o", tmp_path / "ix", "--adapter", tmp_path / "lora")
    assert status == 2
    assert "does not fit LlamaForCausalLM" in said


def test_another_model_is_refused(whence, world: World, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", seed=5)
    status, _, said = whence("trace", world.index, "-p", "a", "-r", "b", "--model", other)
    assert status == 2
    assert "not the one the index was built with" in said


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(world: World, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "train.jsonl", rows(120))
    words = ["index", str(world.model), str(data), "-o", str(tmp_path / "ix"), "--layer", "last", "--shard-rows", "2"]
    command = [sys.executable, "-c", "from whence.cli.main import main; main()", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    # A run in the background of a shell ignores the signal, and so would the child.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heard)
    shards = tmp_path / "ix" / "shards"
    deadline = time.monotonic() + 120
    while not list(shards.glob("*.note")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "Stopped." in said
    assert "Traceback" not in said
    again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert again.returncode == 0, again.stderr
    assert "is complete: 120 rows" in again.stderr


def test_a_full_disk_is_one_message(whence, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import errno

    from whence.results.trace_result import TraceResult

    def full(self: TraceResult, path: Path, *, show_text: bool = True) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(TraceResult, "to_json", full)
    status, _, said = whence("trace", world.index, "-p", "a", "-r", "b", "--json", tmp_path / "o.json")
    assert status == 2
    assert "No space left on device" in said
    assert "Make room" in said


@pytest.mark.parametrize("command", [[], ["index"], ["trace"], ["layers"], ["verify"], ["demo"]])
def test_every_help(whence, command: list[str]) -> None:
    status, shown, _ = whence(*command, "--help")
    assert status == 0
    assert "Usage:" in shown


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['whence', '--help']\n"
        "from whence.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'lance', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    # Processor time: on a busy machine the clock on the wall measures the others.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "[]"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < HELP_SECONDS
