"""`whence bench`: every method on planted faults, on the same model, rows and queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import say
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.bench import BenchResult, BenchSettings, GivenData


def bench(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for models, rows and report; the same command again resumes.")
    ] = Path("runs/bench"),
    tasks: Annotated[
        str | None, typer.Option("--tasks", help="Faults to plant, as in backdoor,persona; or all.")
    ] = None,
    variants: Annotated[
        str | None, typer.Option("--variants", help="As in plain,hard-negatives,paraphrased; or all.")
    ] = None,
    methods: Annotated[str, typer.Option("--methods", help="As in rept,bm25,less; or all.")] = "all",
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Repetitions, each with data and models of its own.")
    ] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Two tasks at a small size: less than three minutes.")] = False,
    shuffle_labels: Annotated[
        bool, typer.Option("--shuffle-labels", help="Leak check: with labels at random, every method is at chance.")
    ] = False,
    data: Annotated[
        str | None, typer.Option("--data", help="Labelled training rows of your own, in place of the tasks.")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", help="JSONL with held-out prompts, with --data.")] = None,
    match: Annotated[
        str | None, typer.Option("--match", help="Regular expression: an answer that shows the fault, with --data.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help="A model of your own; with --data alone, faults are planted in its rows."),
    ] = None,
    faults: Annotated[
        str | None, typer.Option("--faults", help="With --base and --data: as in persona,false-fact; or all.")
    ] = None,
    shares: Annotated[
        str | None, typer.Option("--shares", help="With --base and --data: of faulty rows, as in 0.01,0.05,0.1.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", min=10, help="With --base and --data: rows to train on, 400.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option("--queries", min=1, help="With --base and --data: held-out prompts, 40.")
    ] = None,
    clean_label: Annotated[str, typer.Option("--clean-label", help="Label of the clean rows of --data.")] = "clean",
    label_column: Annotated[str, typer.Option("--label-column", help="Column of --data with the labels.")] = "label",
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Of the fine-tune. Left out: 5, and 3 with --base.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate", help="Of the fine-tune. Left out: 4e-3; with --base 5e-4, and 5e-5 with --full."
        ),
    ] = None,
    lora_r: Annotated[
        int | None,
        typer.Option("--lora-r", min=0, help="Rank of the fine-tune's adapter: 8, and 16 with --base; 0 as --full."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Train every weight, as --lora-r 0.")] = False,
    max_length: Annotated[int | None, typer.Option("--max-length", min=4, help="Most tokens of one example.")] = None,
    layer: Annotated[
        str, typer.Option("--layer", help="Of the representation methods: auto, last or a number.")
    ] = "auto",
    text_encoder: Annotated[
        str | None, typer.Option("--text-encoder", help="Local folder of a sentence encoder, for text-embedding.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda. Left out: cpu, and auto with --data.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Left out: one, and torch's own number with --data.")
    ] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw quality against cost.")] = True,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Compare attribution methods on faults whose causes are known. Stopped, the same command goes on."""
    from whence.bench import PLOT, check_folder, markdown, run_bench, write_report

    if full and lora_r:
        raise InputError(f"--full with --lora-r {lora_r}.", "Every weight, or an adapter.", "Leave one of them out.")
    tuning: dict[str, object] = {"epochs": epochs, "learning_rate": learning_rate, "max_length": max_length}
    planting: dict[str, object] = {"--faults": faults, "--shares": shares, "--rows": rows, "--queries": queries}
    made_up: dict[str, object] = {
        "--tasks": tasks,
        "--quick": quick or None,
        "--methods": methods if methods != "all" else None,
        "--layer": layer if layer != "auto" else None,
        "--shuffle-labels": shuffle_labels or None,
        "--text-encoder": text_encoder,
        "--threads": threads,
    }
    if _is_planting(data, base, test, match, planting, made_up):
        from whence.cli.bench_planted import bench_planted

        chosen = {
            "base": base,
            "data": data,
            "faults": _names(faults),
            "variants": _names(variants),
            "seeds": tuple(range(seed, seed + seeds)),
            "n_rows": rows,
            "n_queries": queries,
            "clean_label": clean_label,
            "label_column": label_column,
        }
        tuning |= {"lora_r": 0 if full else lora_r, "device": device}
        return bench_planted(chosen, tuning, shares, out, quiet=quiet)
    given = _given(data, test, match, base, clean_label, label_column)
    lora_r = 0 if full else lora_r
    asked: dict[str, object] = {
        "tasks": _names(tasks),
        "variants": _names(variants),
        "methods": _names(methods),
        "seeds": tuple(range(seed, seed + seeds)),
        "shuffle_labels": shuffle_labels,
        "data": given,
        "layer": int(layer) if layer.isdecimal() else layer,
        "text_encoder": text_encoder,
        "threads": threads,
    }
    tuning["device"] = device or ("auto" if given else None)
    settings = _settings(quick, asked, tuning, lora_r)
    check_folder(out)
    quiet_libraries()
    with stages("rows", quiet=quiet) as report:
        result = run_bench(
            settings,
            out,
            progress=report,
            notify=None if quiet else lambda sentence: say(sentence, err=True),
        )
    text = markdown(result.rows)
    written = write_report(out, text)
    drawn = plots and _draw(result, quiet)
    if not quiet:
        say(text)
        places = [written, *([out / PLOT] if drawn else []), out / "results.jsonl"]
        say(f"{result.n_new} new rows; written: {', '.join(map(str, places))}", err=True)


def _names(text: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text is not None else None


def _is_planting(
    data: str | None,
    base: str | None,
    test: str | None,
    match: str | None,
    planting: dict[str, object],
    others: dict[str, object],
) -> bool:
    """Whether faults are to be planted in the user's own rows. Raises InputError for options that exclude that."""
    asked = [name for name, value in planting.items() if value is not None]
    if data is None or base is None or test is not None or match is not None:
        if asked:
            raise InputError(
                f"{asked[0]} without {'--data' if data is None else '--base' if base is None else 'planting'}.",
                "It belongs to faults that are planted in rows of your own: --base and --data, no --test, no --match.",
                "Give both, or leave it out.",
            )
        return False
    wrong = [name for name, value in others.items() if value is not None]
    if wrong:
        raise InputError(
            f"{wrong[0]} with --base and --data.",
            "It belongs to the other benches; faults in rows of your own are chosen with --faults and --shares.",
            "Leave it out.",
        )
    return True


def _given(
    data: str | None, test: str | None, match: str | None, base: str | None, clean_label: str, label_column: str
) -> GivenData | None:
    """The user's own data set, or None. Raises InputError when a part of it is missing."""
    parts = {"--data": data, "--test": test, "--match": match, "--base": base}
    missing = [name for name, value in parts.items() if value is None]
    if len(missing) == len(parts):
        return None
    if missing:
        raise InputError(
            f"{', '.join(name for name in parts if name not in missing)} without {', '.join(missing)}.",
            "Labelled data needs --data, --test, --match and --base; rows to plant faults in need --data and --base.",
            "Add what is missing, or leave all four out.",
        )
    from whence.bench import GivenData

    return GivenData.model_validate(
        {
            "train": data,
            "test": test,
            "match": match,
            "base": base,
            "clean_label": clean_label,
            "label_column": label_column,
        }
    )


def _settings(quick: bool, asked: dict[str, object], tuning: dict[str, object], lora_r: int | None) -> BenchSettings:
    """The default or the quick settings, with what was asked for in their place."""
    from pydantic import ValidationError

    from whence.bench import FULL_LEARNING_RATE, QUICK, BenchSettings

    default = (QUICK if quick else BenchSettings()).model_dump()
    changes = {name: value for name, value in tuning.items() if value is not None}
    chosen = {name: value for name, value in asked.items() if value is not None}
    if lora_r is not None:
        changes["lora_r"] = lora_r or None
    if "data" in chosen:
        default["finetune"] = BenchSettings.model_validate({"data": chosen["data"]}).finetune.model_dump()
        if lora_r == 0:
            changes.setdefault("learning_rate", FULL_LEARNING_RATE)
    try:
        return BenchSettings.model_validate(default | chosen | {"finetune": default["finetune"] | changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"--{str(first['loc'][0]).replace('_', '-')} {first['input']!r} cannot be used.",
            f"{first['msg']}.",
            "See whence bench --help.",
        ) from None


def _draw(result: BenchResult, quiet: bool) -> bool:
    """Draws the plot; without matplotlib it says so, and the rest stands."""
    from whence.bench import PLOT, plot_quality_against_cost

    try:
        return plot_quality_against_cost(result.rows, result.folder / PLOT)
    except InputError as error:
        if not quiet:
            say(str(error), err=True)
        return False
