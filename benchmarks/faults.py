"""What happens to an index when its builders are killed, doubled and disturbed, and when its bytes change.

    python benchmarks/faults.py [--kills 200] [--damage 10000] [--workers 1,2] [--seed 0]
                                [--json out.json] [--log out.jsonl]

A tiny Llama with random weights, rows made here, on CPU with one thread a process; no network.

kills    SIGKILL at a random moment of builds by 1 worker, by several jobs, and by as many workers that all do the same
         work; each is started again until the index is complete. Held: every final index equals the undisturbed one,
         row for row, `whence verify` finds nothing, and no kill costs a worker more than the shard it was at.
disk     builds whose files may not grow beyond a limit: one clear error, and the same command goes on.
two      a second builder of the same index: one clear error, and the first is undisturbed.
damage   bytes flipped and files cut, anywhere in the index: `whence verify` names the file, every time.

Each worker is a process forked before Lance has done anything, with the model loaded, so that a kill falls into the
build and not into the loading. The log has a line for each kill: when, which worker, what was computed and committed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from whence.bench import LanguageSettings, new_model, train_tokenizer
from whence.data import Example, read_examples, scan
from whence.errors import IndexFolderError
from whence.index.build_manifest import build_manifest
from whence.index.engines.in_process import InProcess, ShardWriter
from whence.index.file_checks import check_files
from whence.index.jobs import Job, run_job
from whence.index.locking import locked
from whence.index.manifest import BACKUP, Manifest
from whence.index.publishing import read_table, small_files
from whence.index.rejects import Rejects
from whence.index.reopening import Workbench, make_extractor
from whence.index.settings import build_settings
from whence.index.shards import contents, seal, write_index_with
from whence.index.store import Index
from whence.index.subject import chosen_layers, open_subject
from whence.index.verification import verify

SHARD_ROWS, N_SHARDS = 8, 12
KILL_WITHIN = 0.4
"""Of the seconds of an undisturbed build: the moments of kills are drawn from the start of a worker up to there, and
builds that are continued go beyond it."""
KILLS_AN_INDEX = 8
"""At most; fewer where the build is quicker."""
Found = tuple[dict[str, object], list[dict[str, object]]]
"""Figures, and the log of the kills."""
DISK_BYTES = 6000
"""Less than a shard's file."""


@dataclass(frozen=True)
class World:
    """The data, and what computes them."""

    data: Path
    manifest: Manifest
    bench: Workbench

    def writer(self, out: Path, started: Path | None = None) -> ShardWriter:
        extractor = self.bench.extractor if started is None else _Noting(self.bench.extractor, started)
        return ShardWriter(out, self.manifest, self.bench.encoder, extractor)


class _Noting:
    """An extractor that notes which shards its process began."""

    def __init__(self, extractor: object, started: Path) -> None:
        self._extractor, self._started = extractor, started

    def extract(self, turns: Sequence[object], **named: object) -> object:
        with self._started.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return self._extractor.extract(turns, **named)  # type: ignore[attr-defined]


def make_world(folder: Path, seed: int) -> World:
    """A model, rows, and the manifest of their index. Nothing of Lance is started."""
    rng = random.Random(seed)
    rows = [
        {
            "prompt": f"Where is place {i}?",
            "response": " ".join(rng.choices(["north", "south", "of", "the", "river"], k=rng.randrange(2, 12))),
            "source": f"vendor_{i % 3}",
        }
        for i in range(SHARD_ROWS * N_SHARDS)
    ]
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    examples: list[Example] = list(read_examples(data))
    tokenizer = train_tokenizer(examples, 320)
    model = new_model(tokenizer, LanguageSettings(vocab_size=320, hidden_size=32, n_layers=3, seed=seed))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    settings = build_settings(folder / "model", data, folder / "index", {"shard_rows": SHARD_ROWS, "dtype": "float32"})
    subject = open_subject(settings)
    found = scan(data)
    manifest = build_manifest(settings, subject, found, *chosen_layers(settings, subject, found.n_rows))
    return World(
        data, manifest, Workbench(subject.encoder, make_extractor(settings, subject, manifest.vectors, contrast=False))
    )


def forked(work: Callable[[], object]) -> int:
    """The process that does this work and ends with status 0, or 1 with its error on standard error."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        torch.set_num_threads(1)
        work()
        status = 0
    except IndexFolderError as error:
        print(error, file=sys.stderr)
        status = 2
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(child: int) -> int:
    """Its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def build(world: World, out: Path) -> None:
    write_index_with(
        out, lambda: read_examples(world.data), InProcess(world.writer(out)), world.manifest, max_rejected=0.05
    )


def job(world: World, out: Path, which: Job, started: Path) -> None:
    engine = InProcess(world.writer(out, started))
    run_job(out, read_examples(world.data), engine, world.manifest, which, max_rejected=0.05)


def finish(world: World, out: Path) -> None:
    manifest = world.manifest
    content = contents(read_examples(world.data), manifest)
    seal(out, manifest, Rejects(out, manifest, 0.05), content, 0.0)


def same(out: Path, expected: Path) -> None:
    """Ends the process with an error unless the index is the expected one and nothing is wrong with it."""
    problems = verify(out)
    assert problems == [], problems
    ours, theirs = (Index.open(place).dataset.to_table() for place in (out, expected))
    assert ours.equals(theirs), "other records than the undisturbed build"
    assert (out / "centres.safetensors").read_bytes() == (expected / "centres.safetensors").read_bytes()
    assert not (out / "shards").exists()


def kill_builds(
    world: World, folder: Path, expected: Path, seconds: float, n_kills: int, jobs: Sequence[Job], rng: random.Random
) -> list[dict[str, object]]:
    """Kills builds by workers with these jobs until so many kills are counted; a line of the log for each."""
    log: list[dict[str, object]] = []
    number = 0
    while len(log) < n_kills:
        out, number = folder / f"index-{number}", number + 1
        kills = min(KILLS_AN_INDEX, n_kills - len(log))
        lines = _killed_build(world, out, seconds, kills, jobs, rng)
        assert ended(forked(lambda out=out: finish(world, out))) == 0
        assert ended(forked(lambda out=out: same(out, expected))) == 0, f"{out} is not the undisturbed index"
        log += lines
        shutil.rmtree(out)
    return log


def _killed_build(
    world: World, out: Path, seconds: float, kills: int, jobs: Sequence[Job], rng: random.Random
) -> list[dict[str, object]]:
    started = out.with_suffix(".started")
    started.touch()

    def start(which: Job) -> int:
        return forked(lambda: job(world, out, which, started))

    running = {start(which): which for which in jobs}
    lines: list[dict[str, object]] = []
    while running:
        wait = rng.uniform(0, KILL_WITHIN * seconds) if len(lines) < kills else None
        died = _first_to_end(list(running), wait)
        if died is not None:
            child, status = died
            assert status == 0, f"a worker ended with {status}"
            running.pop(child)
            continue
        victim = rng.choice(list(running))
        os.kill(victim, signal.SIGKILL)
        status, which = ended(victim), running.pop(victim)
        if status != -signal.SIGKILL:
            assert status == 0, f"a worker ended with {status}"
            continue  # it had ended in the meantime
        begun = started.read_text().split().count(str(victim))
        lines.append({"job": list(which), "after_s": round(wait or 0.0, 4), "shards_begun": begun})
        running[start(which)] = which
    if len(set(jobs)) == len(jobs):
        extra = len(started.read_text().split()) - N_SHARDS
        assert extra <= len(lines), f"{extra} shards were computed again after {len(lines)} kills"
    started.unlink()
    return lines


def _first_to_end(children: Sequence[int], seconds: float | None) -> tuple[int, int] | None:
    """The first of the processes to end within the time, with its status; None where none does."""
    until = time.monotonic() + (seconds if seconds is not None else 600)
    while time.monotonic() < until:
        for child in children:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return child, os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    return None


def full_disk(world: World, folder: Path, expected: Path) -> str:
    """The error of a build whose files may not grow; the same command then goes on."""
    out, said = folder / "full", folder / "full.txt"

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_BYTES, DISK_BYTES))
        try:
            build(world, out)
        except IndexFolderError as error:
            said.write_text(str(error))
            raise

    assert ended(forked(limited)) == 2, "a full disk is an error that says so"
    assert ended(forked(lambda: build(world, out))) == 0
    assert ended(forked(lambda: same(out, expected))) == 0
    return said.read_text()


def two_builders(world: World, folder: Path, expected: Path) -> str:
    """The error of a second builder, while a first holds the index."""
    out, said = folder / "two", folder / "two.txt"
    out.mkdir()

    def second() -> None:
        try:
            build(world, out)
        except IndexFolderError as error:
            said.write_text(str(error))
            raise

    with locked(out):
        assert ended(forked(second)) == 2, "the second builder is refused"
    assert ended(forked(lambda: build(world, out))) == 0
    assert ended(forked(lambda: same(out, expected))) == 0
    return said.read_text()


def damage_bytes(folder: Path, expected: Path, n: int, rng: random.Random) -> dict[str, int]:
    """Flips a bit or cuts a file n times, anywhere in the index; how often `verify` did not name the file, by kind."""
    out = folder / "damaged"
    shutil.copytree(expected, out)
    names = _files_of(out)
    counts = {"flips": 0, "cuts": 0, "missed": 0}
    for _ in range(n):
        name = rng.choice(names)
        path = out / name
        content = path.read_bytes()
        place, kind = rng.randrange(len(content)), "flips" if rng.random() < 0.75 else "cuts"
        flipped = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
        path.write_bytes(flipped if kind == "flips" else content[:place])
        counts[kind] += 1
        counts["missed"] += not any(name in damage.line() for damage in check_files(out).damage)
        path.write_bytes(content)
    assert not check_files(out).damage
    return counts


def _files_of(out: Path) -> list[str]:
    manifest = Index.open(out).manifest
    table = read_table(out, manifest)
    assert table is not None
    small = small_files(manifest)
    return sorted({*(file.path for file in table.files), *small, *(f"{BACKUP}/{name}" for name in small)})


def scenarios(workers: Sequence[int]) -> dict[str, list[Job]]:
    """Workers of disjoint jobs, and as many that all do the same."""
    found = {f"{n} worker{'s' * (n > 1)}": [Job(i + 1, n) for i in range(n)] for n in workers}
    return found | {f"{n} doubled": [Job(1, 1)] * n for n in workers if n > 1}


def run(kills: int, damage: int, workers: Sequence[int], seed: int, folder: Path) -> Found:
    """Everything; the figures and the log of the kills. Raises AssertionError where an index is not what it must be."""
    torch.set_num_threads(1)
    rng, world, expected = random.Random(seed), make_world(folder, seed), folder / "expected"
    started = time.monotonic()
    assert ended(forked(lambda: build(world, expected))) == 0
    seconds = time.monotonic() - started
    log: list[dict[str, object]] = []
    named = scenarios(workers)
    for i, (name, jobs) in enumerate(named.items()):
        share = kills * (i + 1) // len(named) - kills * i // len(named)
        found = kill_builds(world, folder, expected, seconds, share, jobs, rng)
        log += [{"scenario": name, **line} for line in found]
    texts = {"full disk": full_disk(world, folder, expected), "second builder": two_builders(world, folder, expected)}
    # From here on Lance may run in this process: nothing is forked any more.
    figures: dict[str, object] = {
        "machine": platform.platform(),
        "seed": seed,
        "undisturbed_s": round(seconds, 3),
        "kills": {name: sum(line["scenario"] == name for line in log) for name in named},
        "indexes_unlike_the_undisturbed": 0,
        "said": texts,
        "damage": damage_bytes(folder, expected, damage, rng),
        "seconds": round(time.monotonic() - started, 1),
    }
    return figures, log


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--damage", type=int, default=10_000)
    parser.add_argument("--workers", default="1,2", help="numbers of workers, as in 1,2,4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log", type=Path, help="JSONL, a line for each kill")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        workers = [int(part) for part in options.workers.split(",")]
        figures, log = run(options.kills, options.damage, workers, options.seed, Path(place))
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    if options.log is not None:
        options.log.write_text("".join(json.dumps(line) + "\n" for line in log))


if __name__ == "__main__":
    main()
