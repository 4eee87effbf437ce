"""`whence selftest`: plant faults, fine-tune a small adapter, index, ask, trace, judge.

OUT/
  train.jsonl     the sample of the data with the planted rows, which carry their fault's name as label
  adapter/        the fine-tune
  index/          its index
  selftest.json   the result
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from whence.data import EncodedTurn, Encoder, Example, read_examples, scan, training_row
from whence.errors import InputError, ModelError
from whence.index import Index, build_index, default_form, default_layers, holds, score_matrix
from whence.metrics import measure, rate
from whence.model import Answer, LayerRequest, ModelSettings, generate, load_tokenizer
from whence.progress import Progress, silent
from whence.results import QueryResult as TracedQuery
from whence.scoring import SCORES, bm25_scores
from whence.self_test.plant import (
    FAULTS,
    AddedFault,
    PlantedSample,
    TooFewRowsError,
    choose_faults,
    plant_faults,
    usable_rows,
)
from whence.self_test.result import MIN_AP, FaultResult, FlaggedShares, MethodResult, SelfTest, judged, warnings_of
from whence.trace import Query, Tracer
from whence.train import FinetuneResult, FinetuneSettings, finetune

if TYPE_CHECKING:
    from transformers import PretrainedConfig

TRAIN, ADAPTER, INDEX, RESULT = "train.jsonl", "adapter", "index", "selftest.json"
SETTINGS = FinetuneSettings(lora_r=16, epochs=6, batch_size=8, learning_rate=5e-4, dtype="auto")
N_ROWS, N_FAULTY, N_QUERIES, MAX_NEW_TOKENS = 400, 20, 20, 128
POOL = 3
"""Rows drawn for each one that is needed: some have no prompt, or one that was there before, or are too long. Where
these do not suffice, as many times more are drawn, until all are."""


def selftest(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    base: str | Path | None = None,
    faults: Sequence[str] = FAULTS,
    n_rows: int = N_ROWS,
    n_faulty: int = N_FAULTY,
    n_queries: int = N_QUERIES,
    max_new_tokens: int = MAX_NEW_TOKENS,
    settings: FinetuneSettings = SETTINGS,
    layers: Sequence[LayerRequest] = (),
    min_ap: float = MIN_AP,
    columns: dict[str, str] | None = None,
    split: str | None = None,
    max_rejected: float = 0.05,
    template: str | None = None,
    progress: Progress | None = None,
) -> SelfTest:
    """Plants known faults in a sample of the data, has the model learn them, and says whether their rows are found.

    model, data:   as for `build_index`; a conversation counts with its first exchange.
    out:           a new folder.
    base:          what the fine-tune starts from in place of `model`, whose chat template is still the one used.
    faults:        of `FAULTS`; each is planted in n_faulty of n_rows rows and asked for by n_queries held-out prompts.
    settings:      of the fine-tune, which is always an adapter: lora_r of None is taken as 16.
    max_rejected:  share of rows that may be unusable, as for `build_index`.
    layers:        to compare beside the rule's, the last and those at half and three quarters of the depth.

    The same call gives the same result on the same machine. It is not resumed: a stopped one begins anew, elsewhere.

    Raises:
        InputError: too few rows, data without prompts, a folder that is not empty, an unknown fault.
        DataError, ModelError, EncodingError, NonFiniteError: as reading, loading and training raise them.
    """
    out, tell, start = Path(out), progress or silent, str(base or model)
    _check_out(out)
    _check_plain(start)
    template, source = _template(str(model), str(base) if base else None, template)
    encoder = _encoder(start, template, settings.max_length)
    scanned = scan(data, columns=columns, split=split, max_rejected=max_rejected, progress=tell)

    def planted_in(n_drawn: int) -> PlantedSample:
        drawn = set(Random(settings.seed).sample(range(scanned.n_rows), n_drawn))
        numbered = enumerate(read_examples(data, columns=columns, split=split))
        rows = usable_rows(row for number, row in numbered if number in drawn)
        return plant_faults(
            rows,
            choose_faults(faults, rows),
            encoder,
            n_rows=n_rows,
            n_faulty=n_faulty,
            n_queries=n_queries,
            max_new_tokens=max_new_tokens,
            seed=settings.seed,
        )

    planted = _drawn_on(planted_in, (n_rows + n_queries * len(faults)) * POOL, scanned.n_rows)
    out.mkdir(parents=True, exist_ok=True)
    _write(out / TRAIN, planted)
    trained = _train(start, out, encoder, settings, tell)
    tracer = Tracer(_build(start, out, template, settings, layers, tell), device=settings.device)
    found = tuple(_tested(tracer, fault, planted, n_faulty, max_new_tokens, tell) for fault in planted.faults)
    result = _result(tracer.index, str(model), base, str(data), n_queries, n_faulty, source, trained, found, min_ap)
    result = replace(result, warnings=(*(f"of the data: {note}" for note in scanned.notes), *result.warnings))
    result.to_json(out / RESULT)
    return result


def _check_out(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(
            f"{out} is there already.", "A selftest writes into a new folder.", "Give another one with -o."
        )


def _check_plain(start: str) -> None:
    folder = Path(start)
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise InputError(
            f"{start} is an adapter.",
            "A selftest trains an adapter of its own on a plain model.",
            "Give the model beneath it with --base; its chat template is still the adapter's.",
        )


def _template(model: str, base: str | None, given: str | None) -> tuple[str | None, str]:
    """The template's text, None for the tokenizer's own, and where it came from."""
    if given is not None:
        return given, "given"
    own = load_tokenizer(ModelSettings(model=model))
    if not own.chat_template:
        return None, "fallback"
    return (own.get_chat_template() if base is not None else None), "tokenizer"


def _encoder(start: str, template: str | None, max_length: int) -> Encoder:
    limit = getattr(_config(start), "max_position_embeddings", None) or max_length
    tokenizer = load_tokenizer(ModelSettings(model=start))
    return Encoder(tokenizer, template=template, max_length=min(max_length, int(limit)))


def _config(start: str) -> PretrainedConfig:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(start).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The model {start!r} cannot be read: {str(error).splitlines()[0]}",
            "Expected a folder saved by save_pretrained, with config.json.",
            "Check the path.",
        ) from error


def _drawn_on(planted_in: Callable[[int], PlantedSample], n: int, n_all: int) -> PlantedSample:
    """What is planted in n rows drawn at random, or in more where these are too few. Raises as `planted_in` of all."""
    while n < n_all:
        try:
            return planted_in(n)
        except TooFewRowsError:
            n *= POOL
    return planted_in(n_all)


def _write(path: Path, planted: PlantedSample) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row, label in zip(planted.rows, planted.labels, strict=True):
            line = training_row(row) | {"label": label, "from": row.where}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _train(start: str, out: Path, encoder: Encoder, settings: FinetuneSettings, tell: Progress) -> FinetuneResult:
    chosen = settings if settings.lora_r is not None else settings.model_copy(update={"lora_r": SETTINGS.lora_r})
    rows = list(read_examples(out / TRAIN))
    return finetune(start, rows, out / ADAPTER, settings=chosen, encoder=encoder, progress=tell)


def _build(
    start: str,
    out: Path,
    template: str | None,
    settings: FinetuneSettings,
    layers: Sequence[LayerRequest],
    tell: Progress,
) -> Index:
    n = int(_config(start).num_hidden_layers)
    compared = dict.fromkeys(("auto", "last", *layers, *(max(1, n * part // 4) for part in (2, 3))))
    return build_index(
        start,
        out / TRAIN,
        out / INDEX,
        adapter=str(out / ADAPTER),
        layers=tuple(compared),
        methods=("rept",),
        template=template,
        max_length=settings.max_length,
        dtype=settings.dtype,
        device=settings.device,
        seed=settings.seed,
        progress=tell,
    )


def _tested(
    tracer: Tracer, fault: AddedFault, planted: PlantedSample, n_faulty: int, max_new_tokens: int, tell: Progress
) -> FaultResult:
    """Asks the held-out prompts with and without the trigger, and traces the answers that show the fault."""
    plain = planted.prompts[fault.name]
    asked = [fault.asked(prompt) for prompt in plain]
    tell(f"asking for {fault.name}", 0, None)
    prompts = [tracer.encoder.render_prompt(one.turns, one.template_inputs) for one in (*asked, *plain)]
    answers = generate(tracer.loaded, prompts, max_new_tokens=max_new_tokens)
    shown = [fault.matcher(answer.text) for answer in answers]
    queries = [
        (prompt, answer, _encoded(tracer.encoder, prompt, answer))
        for prompt, answer, is_shown in zip(asked, answers, shown, strict=False)
        if is_shown
    ]
    faulty = np.array([label == fault.name for label in planted.labels])
    methods: list[MethodResult] = []
    flagged = None
    if queries:
        bad = [
            Query(one.turns, answer.text, template_inputs=one.template_inputs, complete=answer.complete)
            for one, answer, _ in queries
        ]
        spanned = tracer.trace_many(bad, k=tracer.index.n_rows, span=fault.addition, verdict=False, progress=tell)
        methods = _methods(tracer, [turn for _, _, turn in queries], faulty, spanned.queries)
        flagged = _flagged_shares(tracer, bad, faulty, tell)
    return FaultResult(
        name=fault.name,
        trigger=fault.trigger,
        addition=fault.addition,
        n_faulty=n_faulty,
        with_trigger=rate([shown[: len(asked)]]),
        without_trigger=rate([shown[len(asked) :]]),
        methods=tuple(methods),
        flagged=flagged,
    )


def _encoded(encoder: Encoder, prompt: Example, answer: Answer) -> EncodedTurn:
    return encoder.encode_query(
        prompt.turns, answer.text, complete=answer.complete, template_inputs=prompt.template_inputs
    )


def _methods(
    tracer: Tracer, turns: Sequence[EncodedTurn], faulty: Bool[np.ndarray, " n_rows"], spanned: Sequence[TracedQuery]
) -> list[MethodResult]:
    """The default method, the same asked about the addition alone, RepT as published, BM25, the default at each layer.

    spanned: the queries traced with the addition as --span.
    """
    index, signatures = tracer.index, tracer.signatures(turns)
    manifest = index.manifest
    default, rept = default_form(manifest), SCORES["rept"]
    tried = [(default, default_layers(default, index.manifest), "")]
    tried += [(rept, default_layers(rept, index.manifest), "--method rept")]
    whole = [at for at in index.layers if holds(default, default.all_at(at), manifest)]
    tried += [(default, default.all_at(at), f"--layer {at}") for at in whole]
    found = []
    for form, roles, flag in tried:
        matrix = score_matrix(index, signatures, method=form, roles=roles)
        found.append(_figures(form.name, form.described(roles), flag, matrix.scores, faulty[matrix.rows]))
    rows = index.examples(matrix.rows.tolist())
    texts = [" ".join(turn.content for turn in row.turns) for row in rows]
    words = bm25_scores([f"{turn.prompt} {turn.response}" for turn in turns], texts).numpy()
    by_place = _by_place(spanned, [row.line for row in rows])
    spanned_figures = _figures(default.name, found[0].layer, "--span", by_place, faulty[matrix.rows])
    return [found[0], spanned_figures, found[1], _figures("bm25", "", "", words, faulty[matrix.rows]), *found[2:]]


def _by_place(traced: Sequence[TracedQuery], lines: Sequence[int]) -> Float[np.ndarray, "n_query n_rows"]:
    """Scores that order the rows as the rankings do; a row that a ranking leaves out comes last."""
    column = {line: number for number, line in enumerate(lines)}
    scores = np.full((len(traced), len(lines)), -float(len(lines) + 1))
    for query, one in enumerate(traced):
        for hit in one.hits:
            scores[query, column[hit.line]] = -hit.rank
    return scores


def _figures(name: str, layer: str, flag: str, scores: np.ndarray, faulty: Bool[np.ndarray, " n_rows"]) -> MethodResult:
    figures = measure(scores, faulty, k=int(faulty.sum()))
    ap, low, high, precision = (float(figures[key] or 0.0) for key in ("ap", "ap_low", "ap_high", "precision"))
    return MethodResult(name, layer, flag, ap, low, high, precision)


def _flagged_shares(
    tracer: Tracer, queries: Sequence[Query], faulty: Bool[np.ndarray, " n_rows"], tell: Progress
) -> FlaggedShares | None:
    """What the verdicts flag; None where nothing could be calibrated."""
    ids = {example.id for example in tracer.index.examples(np.flatnonzero(faulty).tolist())}
    traced = tracer.trace_many(queries, k=1, progress=tell).queries
    calibrated = [one for one in traced if one.hits and one.hits[0].p_value is not None]
    flagged = [set(one.verdict.flagged) for one in calibrated if one.verdict is not None]
    if not flagged:
        return None
    recalls = [len(one & ids) / len(ids) for one in flagged]
    false_shares = [len(one - ids) / len(one) for one in flagged if one]
    return FlaggedShares(float(np.mean(recalls)), float(np.mean(false_shares)) if false_shares else None)


def _result(
    index: Index,
    model: str,
    base: str | Path | None,
    data: str,
    n_queries: int,
    n_faulty: int,
    source: str,
    trained: FinetuneResult,
    found: tuple[FaultResult, ...],
    min_ap: float,
) -> SelfTest:
    manifest, counts = index.manifest, index.manifest.counts
    assert counts is not None, "a complete index counts its records"
    truncated = counts.n_truncated / counts.n_records
    evidence = manifest.layer_choice.get("auto")
    status, text, changes = judged(found, min_ap)
    return SelfTest(
        model=model,
        base=str(base) if base is not None else None,
        data=data,
        n_rows=counts.n_rows,
        n_queries=n_queries,
        k=n_faulty,
        template=source,
        truncated=truncated,
        layer=manifest.layer,
        layer_reason=str(evidence["reason"]) if isinstance(evidence, dict) else "",
        first_loss=trained.losses[0],
        last_loss=trained.losses[-1],
        faults=found,
        status=status,
        text=text,
        changes=changes,
        warnings=warnings_of(found, source, truncated),
    )


__all__ = ["SETTINGS", "selftest"]
