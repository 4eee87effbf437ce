"""One build by several jobs: each computes its shards, in any order and at any time, and the last step seals.

Jobs need nothing of each other but the folder. A job that is killed is started again; one that is started twice, or
that is late, does no harm: the records are those of the shards, each once, whoever computed them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from whence.data import Example
from whence.errors import IndexFolderError, InputError, MismatchError
from whence.index.data_parts import examples_of
from whence.index.engines.in_process import Engine, ShardWriter
from whence.index.history import DataPart
from whence.index.locking import finishing, joined
from whence.index.manifest import Manifest, require_manifest
from whence.index.rejects import Rejects
from whence.index.reopening import reopen
from whence.index.sameness import check_reading
from whence.index.settings import BuildSettings
from whence.index.shard_commits import committed_notes, notes_of
from whence.index.shards import begin, compute_shards, contents, make_folder, seal
from whence.index.store import Index
from whence.progress import Count

_MAY_DIFFER = ("data", "out", "device", "device_map", "max_memory", "max_rejected")
"""Settings that the step that seals may be given otherwise: data are told by their content."""


class Job(NamedTuple):
    """One of `n` jobs; `number` goes from 1 to n. Its shards are every n-th, from the number-th on."""

    number: int
    n: int

    @classmethod
    def parse(cls, text: str) -> Job:
        """Reads "3/16". Raises InputError."""
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found is None:
            raise InputError(
                f"--shard {text!r} cannot be read.", "Expected a number and how many there are, as in 3/16.", ""
            )
        job = cls(int(found[1]), int(found[2]))
        if not 1 <= job.number <= job.n:
            raise InputError(
                f"--shard {text}: there is no job {job.number} of {job.n}.",
                f"Jobs are numbered from 1 to {job.n}.",
                "A SLURM array counts as it is told: --array=1-16 with --shard $SLURM_ARRAY_TASK_ID/16.",
            )
        return job

    def has(self, shard: int) -> bool:
        """Whether the shard is one of this job's."""
        return shard % self.n == self.number - 1


class JobState(NamedTuple):
    """What is there when a job is done: its own shards, and those of all jobs together."""

    n_own: int
    n_committed: int
    n_shards: int
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class ReopenedWriter:
    """Opens a writer of an index that is begun, with the model that its manifest names; for workers elsewhere."""

    out: Path
    manifest: Manifest
    threads: int | None = None

    def __call__(self, device: str) -> ShardWriter:
        """Raises MismatchError where the libraries or the model here are others, and IndexFolderError where the folder
        is not the index's."""
        import torch
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        check_versions(self.manifest)
        found = require_manifest(self.out)
        if found.identity() != self.manifest.identity():
            raise MismatchError(
                f"{self.out} is another index for this worker.",
                "All workers write one folder, which all of them reach under the same path.",
                "Put the index on storage that they share.",
            )
        encoder, extractor = reopen(self.manifest, device=device)
        return ShardWriter(self.out, self.manifest, encoder, extractor)


def run_job(
    out: Path,
    examples: Iterator[Example],
    engine: Engine,
    manifest: Manifest,
    job: Job,
    *,
    max_rejected: float,
    progress: Count | None = None,
) -> JobState:
    """Computes the job's shards of the index that the manifest describes, those that no one has committed.

    Raises what `write_index_with` raises.
    """
    make_folder(out, manifest)
    total = DataPart(manifest.data, 0, 0).n_shards(manifest.shard_rows)
    own = sum(job.has(shard) for shard in range(total))
    with joined(out):
        if begin(out, manifest):
            return JobState(own, total, total, sealed=True)
        rejects = Rejects(out, manifest, max_rejected, shards=range(total))
        try:
            compute_shards(out, examples, engine, manifest, rejects, mine=job.has, progress=progress)
        except (IndexFolderError, OSError):
            # A job that is late may find its files cleared away, because others did its work and sealed the index.
            if require_manifest(out).status != "complete":
                raise
            return JobState(own, total, total, sealed=True)
        return JobState(own, sum(1 for _ in committed_notes(out)), total)


def finish_index(out: Path, *, max_rejected: float, given: BuildSettings | None = None) -> Index:
    """Checks that all shards are there and the data still those they were computed from, and seals the index.

    given: the settings of the command that seals. Its data are read; its other settings must be those that the index
    was begun with, where they are not the defaults.

    Raises:
        IndexFolderError: there is no index, its version read rows otherwise, shards are missing, or another
            run is finishing or building it.
        MismatchError: the index was begun with other settings.
        DataError: the data have changed, or too many rows were set aside.
    """
    started = time.monotonic()
    manifest = require_manifest(out)
    with finishing(out):
        manifest = require_manifest(out)
        if given is not None:
            _check_given(out, manifest, given)
        if manifest.status == "complete":
            return Index.open(out)
        check_reading(out, manifest)
        data = manifest.data if given is None else manifest.data.model_copy(update={"source": given.data})
        part = DataPart(data, 0, 0)
        content = contents(examples_of(part), manifest, part)
        rejects = Rejects(out, manifest, max_rejected, shards=part.shards(manifest.shard_rows))
        for note, _ in notes_of(out, content):
            rejects.take(note)
        rejects.check()
        seal(out, manifest, rejects, content, time.monotonic() - started)
    return Index.open(out)


def _check_given(out: Path, manifest: Manifest, given: BuildSettings) -> None:
    """Raises MismatchError where the index was begun with another model or other settings than these.

    A model or base that is not there under the path it was begun with may lie elsewhere on this machine; of two hub
    names both are known.
    """
    lines = []
    for name, ours in given.model_dump(mode="json").items():
        theirs = manifest.settings.get(name, ours)
        if ours == theirs or name in _MAY_DIFFER or ours == BuildSettings.model_fields[name].get_default():
            continue
        moved = Path(str(theirs)).is_absolute() or Path(str(ours)).is_absolute()
        if name in ("model", "adapter", "base") and not Path(str(theirs)).exists() and moved:
            continue
        if name == "model" and Path(str(theirs)).parent == Path(str(ours)):
            continue  # the last checkpoint of a trainer's folder
        lines.append(f"{name}: begun with {theirs!r}, given {ours!r}")
    if lines:
        raise MismatchError(
            f"The index that was begun in {out} is another one:\n  " + "\n  ".join(lines),
            "The step that seals is given what the jobs were given.",
            "Check -o, or leave out what differs.",
        )


def check_versions(manifest: Manifest) -> None:
    """Raises MismatchError, with what differs, unless the libraries here are those that the index was begun with."""
    here = {name: version(name) for name in manifest.versions}
    lines = [
        f"{name}: the index was begun with {then}, here is {here[name]}"
        for name, then in manifest.versions.items()
        if then != here[name]
    ]
    if lines:
        raise MismatchError(
            "This worker has other libraries than the index was begun with:\n  " + "\n  ".join(lines),
            "All workers compute with the same libraries, so that it does not matter who computes what.",
            "Install the same versions on all machines.",
        )


__all__ = ["Job", "JobState", "ReopenedWriter", "check_versions", "finish_index", "run_job"]
