"""Every error whence raises on purpose.

    WhenceError
    ├── InputError              what the user gave cannot be used
    │   ├── DataError           a data file or a row of it
    │   ├── EncodingError       the chat template or tokenizer cannot render a row
    │   ├── ModelError          a model, adapter or layer
    │   └── IndexFolderError         an index folder: missing, foreign, damaged or unfinished
    │       └── MismatchError   an index asked with another model, tokenizer or template
    └── NonFiniteError          a signature that is NaN or infinite; names its rows

Each message has three parts: what was found, what was expected, what to do. The command line prints the
message and exits with status 2; a traceback means a defect in whence.
"""


class WhenceWarning(UserWarning):
    """Something the user should know that does not stop the run."""


class WhenceError(Exception):
    """Base of all errors raised on purpose."""

    def __init__(self, found: str, expected: str = "", fix: str = "") -> None:
        self.found, self.expected, self.fix = found, expected, fix
        super().__init__("\n".join(part for part in (found, expected, fix) if part))


def install_extra(name: str) -> str:
    """How the packages of an extra are installed: the package of that name on PyPI is another project's."""
    return f'In the clone of whence: pip install -e ".[{name}]"'


class InputError(WhenceError):
    """What the user gave cannot be used."""


class DataError(InputError):
    """A data file, or a row of it, cannot be used."""


class EncodingError(InputError):
    """The chat template or the tokenizer cannot render an example."""


class ModelError(InputError):
    """A model, an adapter or a layer cannot be used."""


class IndexFolderError(InputError):
    """An index folder is missing, foreign, damaged or unfinished."""


class MismatchError(IndexFolderError):
    """An index was asked with another model, adapter, tokenizer, template or layer than it was built with."""


class NonFiniteError(WhenceError):
    """A signature holds NaN or infinity; the message names the rows."""
