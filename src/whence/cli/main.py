"""The command line's entry: the commands, and how any error becomes one message and an exit status.

Exit status: 0 done, 1 a selftest that did not pass, 2 something the user gave cannot be used (or another error raised
on purpose), 130 Ctrl-C.
Heavy imports happen inside the commands, so that `whence --help` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings

import typer

from whence.cli import (
    ann,
    append,
    audit,
    bench,
    clean,
    compact,
    confirm,
    delete,
    demo,
    eval_,
    finetune,
    index,
    info,
    layers,
    plan,
    selftest,
    serve,
    trace,
    triggers,
    verify,
)
from whence.cli.telling import any_locale, say
from whence.errors import WhenceError, WhenceWarning

app = typer.Typer(
    name="whence",
    help="Where did it go wrong? Trace a language model's bad output back to the training rows behind it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("layers")(layers.layers)
app.command("plan")(plan.plan)
app.command("selftest")(selftest.selftest)
app.command("index")(index.index)
app.command("trace")(trace.trace)
app.command("audit")(audit.audit)
app.command("triggers")(triggers.triggers)
app.command("serve")(serve.serve)
app.command("confirm")(confirm.confirm)
app.command("clean")(clean.clean)
app.command("verify")(verify.verify)
app.command("info")(info.info)
app.command("append")(append.append)
app.command("delete")(delete.delete)
app.command("compact")(compact.compact)
app.add_typer(ann.app, name="ann")
app.command("eval")(eval_.evaluate)
app.command("finetune")(finetune.finetune)
app.command("bench")(bench.bench)


INTERRUPTED = 130


def version(value: bool) -> None:
    """Prints the version and ends."""
    if value:
        from importlib.metadata import version as installed

        say(f"whence {installed('whence')}")
        raise typer.Exit


@app.callback()
def options(
    _: bool = typer.Option(False, "--version", help="Print the version.", callback=version, is_eager=True),
) -> None:
    """Options of all commands."""


def main() -> None:
    """Runs the command line; every error raised on purpose ends in one message and its exit status."""
    any_locale()
    warnings.formatwarning = _warning
    try:
        try:
            app()
        except SystemExit:
            sys.stdout.flush()  # a full disk behind it is an error too
            raise
    except SystemExit as ended:
        # typer turns Ctrl-C into this status without a word.
        if ended.code == INTERRUPTED:
            _end("Stopped. What was finished is kept; the same command goes on from there.", INTERRUPTED)
        raise
    except KeyboardInterrupt:
        _end("Stopped.", INTERRUPTED)
    except WhenceError as error:
        _end(f"Error: {error}", 2)
    except BrokenPipeError:
        # The reader (head, less) has gone.
        _close_output()
        sys.exit(0)
    except OSError as error:
        if error.errno not in _PLAIN:
            raise
        place = f": {error.filename}" if error.filename else ""
        _end(f"Error: {error.strerror}{place}\n{_PLAIN[error.errno]}", 2)


_PLAIN = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "What was written before is kept. Make room and give the same command again.",
    ),
    errno.EIO: "The disk failed. What was written before is kept; give another place, or the same command again.",
    errno.EACCES: "whence needs to read its inputs and to write its outputs. Check the permissions.",
    errno.EROFS: "The place to write to is read-only. Give another one with -o.",
    errno.ENOENT: "Check the path.",
    errno.ENOTDIR: "A part of that path is a file. Check the path.",
    errno.EISDIR: "That is a folder; a file was expected.",
}


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings as sentences; those of libraries with the place that Python gives them."""
    from whence.report import visible

    if issubclass(category, WhenceWarning):
        return visible(f"Warning: {message}", lines=True) + "\n"
    return _PYTHONS_WARNING(message, category, filename, lineno, line)


_PYTHONS_WARNING = warnings.formatwarning


def _end(message: str, status: int) -> None:
    from whence.report import visible

    try:
        sys.stdout.flush()
    except OSError:
        _close_output()
    sys.stderr.write(visible(message.rstrip(), lines=True) + "\n")
    sys.exit(status)


def _close_output() -> None:
    """Python would complain once more of what cannot be written when it flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
