"""How few bytes a row may take: quality of every stored form against full float32 vectors.

    python benchmarks/storage.py [--tasks all] [--seeds 0,1] [--variant hard-negatives] [--models DIR] [--json OUT]
    python benchmarks/storage.py --case CASE --base BASE

Per task and seed of the made-up tasks a small model learns the fault (whence.bench.subject.train_case). The signatures
of rows, queries and references are extracted once in float32; each form of `--forms` then stores and reads the rows as
an index does (whence.index.stored_form), and the default method ranks and judges. Printed for each form:

bytes:    of a row's three vectors with norms and scales, at this model's width and at hidden 4,096
AP:       average precision over the full ranking, mean over all queries, and its difference from full vectors
found:    share of the faulty rows that a query's verdict flags; wrong: share of the flagged rows that are not faulty
same:     share of the queries whose verdict flags exactly the rows that it flags with full vectors
error:    root mean square difference of a score from that with full vectors

CASE is a case's folder of `whence bench --base` or of benchmarks/real_models.py (train.jsonl, adapter, queries.jsonl),
BASE the base that its adapter was trained on; there `--references` prompts are answered anew, 0 for no verdicts.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch

from common import given_case
from whence.bench.cases import BenchSettings, made_case
from whence.bench.faults import FAULTS
from whence.bench.subject import train_case
from whence.data import Encoder
from whence.data.examples import EncodedTurn
from whence.index.stored_form import Storage, in_form, quantised
from whence.methods import SharedWork
from whence.metrics import average_precision, bootstrap
from whence.model import LoadedModel
from whence.scoring.defaults import default_method
from whence.scoring.forms import Depths, form_scores
from whence.scoring.vectors import CENTRED, Block, Vectors, to_vectors
from whence.signatures import Extracted, Extractor
from whence.trace import Query
from whence.trace.query.batch import peak_gains, summed_gains
from whence.trace.settings import N_REFERENCES
from whence.trace.verdict.calibration import Gains, PeakGains, calibrate, mostly_learned, reference_flags
from whence.trace.verdict.reference_scores import ReferenceScores
from whence.trace.verdict.references import ReferenceQuery, answer_references

FULL = "float32, all"
FORM = default_method(has_base=True)
WIDE = 4096
NAMES = ("dm", "h", "eh")


@dataclass(frozen=True)
class Read:
    """What one case gives: signatures of rows, queries and references, and what is known of them."""

    name: str
    layers: tuple[int, ...]
    rows: Extracted
    queries: Extracted
    references: Extracted | None
    own: np.ndarray
    faulty: np.ndarray


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    read = [read_given_case(args)] if args.case else toy_cases(args)
    found: list[dict] = []
    for one in read:
        hidden = one.rows.layers[one.layers[0]].get("dm").shape[1]
        exact = scored(one, None)
        told = judged(one, exact, args.fdr)
        for name in (FULL, *args.forms):
            scores = exact if name == FULL else scored(one, storage_of(name))
            verdicts = told if name == FULL else judged(one, scores, args.fdr)
            found += list(rows_of(one, name, hidden, scores, exact, verdicts, told))
        print(f"{one.name}: {len(one.faulty)} rows of width {hidden}, {len(exact[0])} queries", flush=True)
        if args.json:
            Path(args.json).write_text(json.dumps({"settings": str(vars(args)), "rows": found}, indent=1), "utf-8")
    print(f"\n{platform.machine()}, torch {torch.__version__}, float32, seeds {args.seeds}\n")
    table(found, args.forms)


def storage_of(name: str) -> Storage:
    """ "int8, 512" as how vectors are stored."""
    precision, dimensions = (part.strip() for part in name.split(","))
    return Storage(precision, None if dimensions == "all" else int(dimensions))  # type: ignore[arg-type]


def scored(one: Read, storage: Storage | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The default method's scores of the queries and of the references, rows stored in that form; None: as they are."""
    train, means = stored_block(one, one.rows, storage, None)
    gain = one.rows.log_likelihood_gain
    both = []
    for asked in (one.queries, one.references):
        if asked is None:
            both.append(None)
            continue
        query, _ = stored_block(one, asked, storage, means)
        both.append(form_scores(FORM, query, train, one.layers, gain).double().numpy())
    return both[0], both[1]


def stored_block(
    one: Read, of: Extracted, storage: Storage | None, means: dict[tuple[int, str], torch.Tensor] | None
) -> tuple[Block, dict[tuple[int, str], torch.Tensor]]:
    """The vectors as an index holds them, and their means. means: of the rows, for queries, which are not rounded."""
    block: dict[int, dict[str, Vectors]] = {}
    own: dict[tuple[int, str], torch.Tensor] = {}
    for layer, read in zip(one.layers, FORM.needs, strict=True):
        raw = of.layers[layer].get(read.vector)
        vectors = to_vectors(raw) if storage is None else in_form(vector(storage, read.vector, layer, raw), raw)
        if storage is not None and means is None:
            if storage.precision == "int8":
                q, _, norm = quantised(vectors)
                vectors = Vectors(to_vectors(q.float()).unit, norm)
            else:
                vectors = Vectors(to_vectors(vectors.unit.half().float()).unit, vectors.norm)
        values = vectors.unit.double() * vectors.norm.double()[:, None]
        own[layer, read.vector] = values.mean(0)
        mean = (means or own)[layer, read.vector]
        found = block.setdefault(layer, {})
        found[read.vector] = vectors
        found[read.vector + CENTRED] = to_vectors(values - mean, torch.float32)
    return block, own


def vector(storage: Storage, name: str, layer: int, raw: torch.Tensor):
    return storage.vector(name, layer, raw.shape[1])


def bytes_of(name: str, hidden: int) -> int:
    """Of a row's three vectors, with their norms and scales."""
    dims = {"dm": hidden, "h": hidden, "eh": 1024}
    if name == FULL:
        return sum(4 * dim + 4 for dim in dims.values())
    storage = storage_of(name)
    kept = [storage.vector(vector_name, 1, dim).stored_dim for vector_name, dim in dims.items()]
    return sum(dim + 8 if storage.precision == "int8" else 2 * dim + 4 for dim in kept)


def judged(one: Read, scores: tuple[np.ndarray, np.ndarray | None], fdr: float) -> list[frozenset[int]] | None:
    """The rows that each query's verdict flags; None without references."""
    if one.references is None or scores[1] is None:
        return None
    references = ReferenceScores(scores[1], one.own)
    gains, peaks = gains_of(one.references)
    rows = one.rows.log_likelihood_gain.double().numpy()
    found = []
    for row, gain, peak in zip(scores[0], *gains_of(one.queries), strict=True):
        known = Gains(float(gain), gains, rows, peaks=PeakGains(float(peak), peaks))
        if not mostly_learned(known):
            known = Gains(
                known.answer, gains, rows, reference_flags(references, known, fdr=fdr), PeakGains(float(peak), peaks)
            )
        found.append(frozenset(calibrate(row, references, known, fdr=fdr).flagged.tolist()))
    return found


def gains_of(found: Extracted) -> tuple[np.ndarray, np.ndarray]:
    """Gain and peak gain of each answer, nats."""
    assert found.shifts is not None
    return summed_gains(found.shifts), peak_gains(found.shifts)


def rows_of(
    one: Read,
    name: str,
    hidden: int,
    scores: tuple[np.ndarray, np.ndarray | None],
    exact: tuple[np.ndarray, np.ndarray | None],
    verdicts: Sequence[frozenset[int]] | None,
    told: Sequence[frozenset[int]] | None,
) -> Iterator[dict]:
    """One for each query."""
    faulty = set(np.flatnonzero(one.faulty).tolist())
    for query, (row, plain) in enumerate(zip(scores[0], exact[0], strict=True)):
        found = {"case": one.name, "form": name, "query": query, "bytes": bytes_of(name, hidden)}
        found |= {"ap": average_precision(row, one.faulty), "ap_full": average_precision(plain, one.faulty)}
        found |= {"squared_error": float(((row - plain) ** 2).mean())}
        if verdicts is not None and told is not None:
            flagged = verdicts[query]
            found |= {
                "found": len(flagged & faulty) / len(faulty),
                "wrong": len(flagged - faulty) / max(1, len(flagged)),
                "same": float(flagged == told[query]),
            }
        yield found


def table(rows: Sequence[dict], forms: Sequence[str]) -> None:
    """All queries together, and the average precision of each case."""
    print("| form | bytes | at 4,096 | AP | less than full | least of a case | found | wrong | same | error |")
    print("|---|---:|---:|---|---|---:|---|---|---|---:|")
    for name in (FULL, *forms):
        mine = [row for row in rows if row["form"] == name]
        by_case: dict[str, list[float]] = {}
        for row in mine:
            by_case.setdefault(row["case"], []).append(row["ap"] - row["ap_full"])
        least = min(np.mean(values) for values in by_case.values())
        judged_rows = [row for row in mine if "found" in row]
        cells = [
            f"{np.mean([row['bytes'] for row in mine]):,.0f}",
            f"{bytes_of(name, WIDE):,}",
            str(bootstrap([row["ap"] for row in mine], seed=0)),
            str(bootstrap([row["ap"] - row["ap_full"] for row in mine], seed=0)),
            f"{least:.3f}",
            *(f"{np.mean([row[key] for row in judged_rows]):.3f}" if judged_rows else "" for key in COLUMNS),
            f"{np.sqrt(np.mean([row['squared_error'] for row in mine])):.4f}",
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


COLUMNS = ("found", "wrong", "same")


def toy_cases(args: argparse.Namespace) -> Iterator[Read]:
    """The made-up tasks, each trained or taken from the folder of models."""
    tasks = list(FAULTS) if args.tasks == "all" else args.tasks.split(",")
    for seed in args.seeds:
        settings = BenchSettings(seeds=(seed,))
        for task in tasks:
            case = made_case(settings, task, args.variant, seed)
            trained = train_case(case, settings, Path(args.models), SharedWork(), lambda *_: None)
            if trained.queries is None:
                continue
            loaded = trained.subject.loaded
            encoder = Encoder(loaded.tokenizer, max_length=settings.finetune.max_length)
            numbers = sorted(Random(f"storage/{task}/{seed}").sample(range(len(case.train)), N_REFERENCES))
            drawn = [ReferenceQuery(Query(case.train[row].turns[:-1]), row) for row in numbers]
            yield read_case(
                case.name, loaded, encoder, trained.train.turns, list(trained.queries.turns), drawn,
                np.array(case.faulty)[trained.row_of], trained.row_of,
            )  # fmt: skip


def read_given_case(args: argparse.Namespace) -> Read:
    """A case of a pretrained model."""
    loaded, encoder, rows, faulty, asked = given_case(args.case, args.base, args.max_length)
    numbers = sorted(Random("storage").sample(range(len(rows)), min(args.references, len(rows))))
    drawn = [ReferenceQuery(Query(rows[row].turns[:-1]), row) for row in numbers]
    turns = [encoder.encode(row)[0] for row in rows]
    queries = [query.encode(encoder) for query in asked[: args.queries]]
    return read_case(args.case.name, loaded, encoder, turns, queries, drawn, faulty, np.arange(len(rows)))


def read_case(
    name: str,
    loaded: LoadedModel,
    encoder: Encoder,
    turns: Sequence[EncodedTurn],
    queries: Sequence[EncodedTurn],
    drawn: Sequence[ReferenceQuery],
    faulty: np.ndarray,
    row_of: np.ndarray,
) -> Read:
    """Every signature that the default reads, in float32."""
    layers = FORM.layers(Depths(1, loaded.n_layers))
    extractor = Extractor(loaded, vectors=FORM.vectors(layers), contrast=True)
    references, own = None, np.empty(0, np.int64)
    if drawn:
        answered = answer_references(drawn, loaded, encoder, extractor, answer_tokens=40)
        references, own = extractor.extract(answered.turns), np.searchsorted(row_of, answered.rows)
    return Read(name, layers, extractor.extract(turns), extractor.extract(queries), references, own, faulty)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="all")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0])
    parser.add_argument("--variant", default="hard-negatives")
    parser.add_argument("--models", default="runs/storage")
    parser.add_argument("--case", type=Path)
    parser.add_argument("--base")
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--references", type=int, default=N_REFERENCES)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--fdr", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--forms",
        type=lambda text: [part.strip() for part in text.split(";")],
        default=["float16, all", "float16, 512", "float16, 64", "int8, all", "int8, 512", "int8, 256", "int8, 128",
                 "int8, 64", "int8, 32"],
    )  # fmt: skip
    parser.add_argument("--json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
