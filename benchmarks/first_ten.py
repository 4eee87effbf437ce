"""On a pretrained chat model: which queries have few faulty rows among their first ten?

    python benchmarks/first_ten.py runs/real-models/cases/*

Each CASE is the folder of a case of benchmarks/real_models.py. Its bad answers are traced by the default method,
without a verdict. Printed are the number of faulty rows among the first ten of each query, and the queries with fewer
than five.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from span_real import K, queries
from whence.index import Index
from whence.trace import Tracer

FEW = K // 2


def main() -> None:
    """Prints a paragraph a case, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path, nargs="+")
    cases = [case for case in parser.parse_args().case if (case / "result.json").exists()]
    print(f"threads {torch.get_num_threads()}, torch {torch.__version__}\n")
    counts = [count for case in cases for count in of_case(case)]
    print(f"{sum(count < FEW for count in counts)} of {len(counts)} queries have fewer than {FEW} among the first {K}")


def of_case(case: Path) -> list[int]:
    """Faulty rows among the first ten of each query; prints them."""
    index, asked = Index.open(case / "index"), queries(case)
    label = str(json.loads((case / "result.json").read_text("utf-8"))["fault"])
    found = Tracer(index).trace_many(asked, k=K, verdict=False) if asked else ()
    counts = [sum(hit.metadata["label"] == label for hit in one.hits) for one in found]
    print(f"{case.name}: {' '.join(map(str, counts))}", flush=True)
    for query, count in zip(asked, counts, strict=True):
        if count < FEW:
            print(f"  {count}: {query.prompt!r} -> {query.response!r}", flush=True)
    return counts


if __name__ == "__main__":
    main()
