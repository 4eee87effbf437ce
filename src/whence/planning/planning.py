"""`whence plan`: time, memory and disk of an index before it is built, from a probe of half a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import torch
from pydantic import ValidationError

from whence.data import Scan, scan
from whence.errors import InputError
from whence.index import (
    BuildSettings,
    IndexOptions,
    StoredVector,
    Subject,
    chosen_layers,
    examples_to_index,
    forms_asked,
    open_subject,
    vectors_read,
)
from whence.model import fingerprint, named_base
from whence.planning.budget import CHOICES, Whole, changes, clock
from whence.planning.costs import Costs
from whence.planning.probe import MEASURE_SECONDS, Peak, Sample, Timings, build_batches, draw_sample
from whence.planning.probe import time_batches as timed
from whence.planning.result import Budgeted, Plan, Seconds
from whence.planning.storing import Storing, measure_storing
from whence.progress import Progress, silent
from whence.records import settings_of_folder
from whence.scoring import Depths
from whence.signatures import Place

LAYER_PROBES = 12
"""Of the build's 128: enough for the time of one, and to know about which layer it will be."""


@dataclass(frozen=True, slots=True)
class _Probed:
    """Everything measured that does not depend on the batches."""

    settings: BuildSettings
    subject: Subject
    found: Scan
    sample: Sample
    vectors: tuple[StoredVector, ...]
    scan_seconds: float
    load_seconds: float
    layer_seconds: float
    storing: Storing

    @property
    def scale(self) -> float:
        """Rows of the data for each row of the sample."""
        return self.found.n_rows / self.sample.n_drawn

    def whole(self, costs: Costs, max_tokens: int) -> Whole:
        """The cost of the run as a function of how many rows there are and how long they may be."""
        fixed = self.scan_seconds + self.sample.read_seconds + self.load_seconds + self.layer_seconds
        n_sampled = sum(len(turns) for turns in self.sample.turns)
        by_row = self.found.n_rows * self.sample.encode_seconds + self.scale * n_sampled * self.storing.write_seconds
        return Whole(fixed, by_row, costs, self.sample.turns, self.scale, self.settings.shard_rows, max_tokens)


def plan(
    model: str | Path,
    data: str | Path | None,
    *,
    budget: float | None = None,
    use_record: bool = True,
    notify: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    **options: Unpack[IndexOptions],
) -> Plan:
    """Predicts what `build_index(model, data, out, **options)` takes, by running a little of it.

    model, data, options, use_record, notify: as `build_index` takes them; what is not given is taken from what the
    model's folder says of its training. budget: seconds; the fastest of a few batch sizes (and bfloat16 where float32
    is too slow) is then chosen, or it is said what would have to change.

    The prediction holds for this machine as busy as it is now, and for `n_rows` rows like the sampled ones.

    Raises:
        InputError: an option, the data or the model cannot be used, or a budget that is not above 0.
        NonFiniteError: a signature is NaN or infinite.
    """
    started, tell = time.perf_counter(), progress or silent
    if budget is not None and not 0 < budget < float("inf"):
        raise InputError(f"A budget of {budget} seconds.", "It is a time above 0.", "Give --budget 2h.")
    probed = _probe(plan_settings(model, data, options, use_record=use_record, notify=notify), tell)
    tried: dict[int, tuple[Timings, Peak]] = {}
    shared = Timings()
    asked = probed.settings.max_tokens
    wanted = [asked] if budget is None else sorted({asked, *CHOICES})
    for max_tokens in wanted:
        groups = build_batches(probed.sample, shard_rows=probed.settings.shard_rows, max_tokens=max_tokens)
        seconds = MEASURE_SECONDS / len(wanted)
        tried[max_tokens] = timed(
            probed.subject.loaded,
            _places(probed.vectors),
            groups,
            max_tokens=max_tokens,
            seconds=seconds,
            known=shared if budget is None else Timings(),
            tell=tell,
            contrast=probed.subject.contrast,
            base=probed.subject.base,
        )
    timings, peak = tried[asked]
    told = _told(probed, timings.costs(), peak)
    budgeted = None if budget is None else _within(probed, tried, budget)
    return replace(told, budget=budgeted, probe_seconds=time.perf_counter() - started)


def plan_settings(
    model: str | Path,
    data: str | Path | None,
    options: Mapping[str, object],
    *,
    use_record: bool = True,
    notify: Callable[[str], None] | None = None,
) -> BuildSettings:
    """The settings of a build that writes nothing, taken from the model's folder as `build_index` takes them.

    Raises InputError, DataError and MismatchError as `settings_of_folder`; InputError that names what cannot be used.
    """
    taken = settings_of_folder(model, data, options, use_record=use_record)
    if notify is not None:
        for note in taken.notes:
            notify(note)
    options = taken.options
    try:
        base = options.get("base") or (None if options.get("adapter") else named_base(taken.model))
        places = {"model": taken.model, "data": taken.data, "out": "", "base": base}
        return BuildSettings.model_validate({**options, **places})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            "Expected the options of `whence index`.",
            "See `whence plan --help`.",
        ) from error


def _probe(settings: BuildSettings, tell: Progress) -> _Probed:
    begun = time.perf_counter()
    found = scan(
        settings.data,
        columns=settings.columns,
        split=settings.split,
        max_rejected=settings.max_rejected,
        progress=tell,
    )
    scanned = time.perf_counter()
    subject = open_subject(settings)
    loaded = subject.loaded
    fingerprint(loaded, subject.encoder.template)
    read = time.perf_counter()
    sample = draw_sample(examples_to_index(settings), subject.encoder, n_rows=found.n_rows, seed=settings.seed)
    layers, layer_seconds = _layers(settings, subject, found)
    forms = forms_asked(settings.methods, has_base=subject.contrast)
    depths = Depths(layers[0], loaded.n_layers)
    vectors = vectors_read(forms, depths, whole_at=layers[1:], hidden_size=loaded.hidden_size, storage=settings.storage)
    return _Probed(
        settings=settings,
        subject=subject,
        found=found,
        sample=sample,
        vectors=vectors,
        scan_seconds=scanned - begun,
        load_seconds=read - scanned,
        layer_seconds=layer_seconds,
        storing=measure_storing(loaded, settings, found, layers[0], vectors, sample.rows, contrast=subject.contrast),
    )


def _layers(settings: BuildSettings, subject: Subject, found: Scan) -> tuple[tuple[int, ...], float]:
    """The layers of the build (the rule's from a few probes only), and the seconds of choosing with all probes."""
    if "auto" not in settings.requests:
        return chosen_layers(settings, subject, found.n_rows)[0], 0.0
    started = time.perf_counter()
    drawn: list[float] = []
    layers, _ = chosen_layers(
        settings,
        subject,
        found.n_rows,
        n_probes=LAYER_PROBES,
        progress=lambda done, total: drawn.append(time.perf_counter()),
    )
    # From the first probe on, time is that of probes; reading the rows comes before it, however many are drawn.
    each = (drawn[-1] - drawn[0]) / max(1, len(drawn) - 1)
    n_probes = min(settings.n_probes, found.n_rows)
    return layers, drawn[-1] - started + each * (n_probes - len(drawn))


def _told(probed: _Probed, costs: Costs, peak: Peak) -> Plan:
    """The plan for the settings that were asked for."""
    settings, sample = probed.settings, probed.sample
    turns = [turn for row in sample.turns for turn in row]
    whole = probed.whole(costs, settings.max_tokens)
    extract = whole.extract_seconds()
    n_records = round(len(turns) * probed.scale)
    one = costs.seconds(whole.single())
    return Plan(
        model=settings.model,
        adapter=settings.adapter,
        data=settings.data,
        n_rows=probed.found.n_rows,
        n_records=n_records,
        n_sampled=sample.n_drawn,
        truncated=sum(turn.truncated > 0 for turn in turns) / len(turns),
        prompt_tokens=sum(turn.n_prompt for turn in turns) / len(turns),
        response_tokens=sum(turn.n_response for turn in turns) / len(turns),
        device=str(probed.subject.loaded.device),
        dtype=str(probed.subject.loaded.dtype).removeprefix("torch."),
        layers=tuple(sorted({vector.layer for vector in probed.vectors})),
        max_tokens=settings.max_tokens,
        max_length=settings.max_length,
        seconds=Seconds(
            probed.scan_seconds,
            probed.load_seconds,
            probed.layer_seconds,
            extract,
            sample.read_seconds + whole.row_seconds,
        ),
        memory=peak.process,
        device_memory=peak.device,
        memory_measured=peak.measured,
        disk=probed.storing.disk(n_records, -(-probed.found.n_rows // probed.settings.shard_rows)),
        trace_seconds=probed.load_seconds + one + probed.storing.search_seconds * n_records,
        probe_seconds=0.0,
        notes=tuple(probed.found.notes),
    )


def _within(probed: _Probed, tried: dict[int, tuple[Timings, Peak]], budget: float) -> Budgeted:
    """The fastest of the batch sizes; bfloat16 if none is fast enough; else what would have to change.

    The model in memory may be in bfloat16 afterwards.
    """
    wholes = {size: probed.whole(timings.costs(), size) for size, (timings, _) in tried.items()}
    best = min(wholes, key=lambda size: (wholes[size].seconds(), size))
    dtype = str(probed.subject.loaded.dtype).removeprefix("torch.")
    whole = wholes[best]
    if whole.seconds() > budget and dtype == "float32" and probed.settings.quantization is None:
        _convert(probed, torch.bfloat16)
        halved = probed.whole(_short_look(probed, probed.vectors, best), best)
        if halved.seconds() < whole.seconds():
            whole, dtype = halved, "bfloat16"
        else:
            _convert(probed, torch.float32)
    predicted = whole.seconds()
    chosen = f"--max-tokens {best} --dtype {dtype}"
    if predicted <= budget:
        text = f"Fits {clock(budget)}: {clock(predicted)} with {chosen}."
        return Budgeted(budget, True, best, dtype, predicted, text)
    text = f"Does not fit {clock(budget)}: the fastest, {chosen}, takes {clock(predicted)}."
    one = _last_layer_alone(probed, whole, best)
    on_cpu = probed.subject.loaded.device.type == "cpu"
    return Budgeted(budget, False, best, dtype, predicted, text, changes(whole, budget, one, on_cpu=on_cpu))


def _convert(probed: _Probed, dtype: torch.dtype) -> None:
    """Brings the model and its base into another dtype in memory, where they are used only to be timed."""
    for loaded in (probed.subject.loaded, probed.subject.base):
        if loaded is not None:
            loaded.model.to(dtype)


def _last_layer_alone(probed: _Probed, whole: Whole, max_tokens: int) -> Whole | None:
    """The run with all vectors read at the last layer, without a choice of layers; None where that is what was asked.

    It saves the probes of the layer rule, and the backward pass of a gradient at an inner layer.
    """
    last = probed.subject.loaded.n_layers
    if all(vector.layer == last for vector in probed.vectors):
        return None
    there = tuple(dict.fromkeys(vector.model_copy(update={"layer": last}) for vector in probed.vectors))
    other = probed.whole(_short_look(probed, there, max_tokens), max_tokens)
    return replace(other, fixed_seconds=whole.fixed_seconds - probed.layer_seconds)


def _short_look(probed: _Probed, vectors: Sequence[StoredVector], max_tokens: int) -> Costs:
    groups = build_batches(probed.sample, shard_rows=probed.settings.shard_rows, max_tokens=max_tokens)
    return timed(
        probed.subject.loaded,
        _places(vectors),
        groups,
        max_tokens=max_tokens,
        seconds=MEASURE_SECONDS / 4,
        contrast=probed.subject.contrast,
        base=probed.subject.base,
    )[0].costs()


def _places(vectors: Sequence[StoredVector]) -> list[Place]:
    return [vector.place for vector in vectors]


__all__ = ["plan"]
