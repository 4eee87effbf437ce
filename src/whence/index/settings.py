"""What `build_index` can be told, in one place: run.yaml holds it, `whence index` and `whence plan` fill it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from pydantic import ConfigDict, Field, ValidationError, field_validator

from whence.data import MAX_REJECTED, LossOn, RowEncoding, Truncation, absolute_source
from whence.errors import InputError
from whence.index.manifest import Precision
from whence.index.stored_form import Storage
from whence.model import DeviceMap, LayerRequest, ModelSettings, named_base
from whence.object_path import place


class BuildSettings(ModelSettings):
    """Everything that `build_index` can be told; run.yaml holds it. See ModelSettings for the model's part.

    data: a file, folder, glob or data set, as `read_examples` takes it; columns and split go with it.
    layers: "auto" (the rule, see whence.model.layer_choice), "last", a number, or a list of these. The first is the
        layer that the forms' depth "rule" means. At each further one all vectors of the methods are stored too, so that
        `whence trace --layer` can ask there.
    methods: methods that the index must be able to answer beside the default one, as in ("rept",). What each reads is
        in docs/method.md; a gradient at an inner layer costs a backward pass.
    precision, dimensions: how a vector is stored: the type of its numbers, and at most how many of them; a vector of
        more dimensions is projected to so many (docs/method.md). None stores all.
    contrast: also store what fine-tuning changed, which the default method reads; costs one more forward pass.
    base: the model before fine-tuning, a folder or hub name; not needed with an adapter, which is turned off. Left out,
        the one that the model's run.yaml names. A model that has neither is indexed without.
    template: Jinja text of a chat template; None takes the tokenizer's own.
    max_length: most tokens of a prompt and its response together.
    truncation, append_eos, loss, date: how the trainer read its rows, see `whence.data.RowEncoding`.
    max_rejected: share of the rows that may be set aside, in [0, 1].
    shard_rows: rows computed between two commits. max_tokens: padded tokens in one batch.
    n_probes, seed: rows that the layer rule looks at, and how they are drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    out: str
    layers: LayerRequest | tuple[LayerRequest, ...] = "last"
    methods: tuple[str, ...] = ()
    precision: Precision = "int8"
    dimensions: int | None = Field(default=1024, ge=16)
    contrast: bool = True
    base: str | None = None
    columns: dict[str, str] | None = None
    split: str | None = None
    template: str | None = None
    max_length: int = Field(default=1024, ge=4)
    truncation: Truncation = "prompt_first"
    append_eos: bool = False
    loss: LossOn = "answers"
    date: str | None = None
    max_rejected: float = Field(default=MAX_REJECTED, ge=0, le=1)
    shard_rows: int = Field(default=1024, ge=1)
    max_tokens: int = Field(default=2048, ge=1)
    n_probes: int = Field(default=128, ge=1)
    seed: int = 0

    @field_validator("date")
    @classmethod
    def _is_a_day(cls, text: str | None) -> str | None:
        return RowEncoding(date=text).date

    @property
    def model_settings(self) -> ModelSettings:
        """The part that loads the model."""
        return ModelSettings(**self.model_dump(include=set(ModelSettings.model_fields)))

    @property
    def row_encoding(self) -> RowEncoding:
        """How the trainer read its rows."""
        return RowEncoding(truncation=self.truncation, append_eos=self.append_eos, loss=self.loss, date=self.date)

    @property
    def storage(self) -> Storage:
        """How vectors are stored."""
        return Storage(self.precision, self.dimensions)

    @property
    def requests(self) -> tuple[LayerRequest, ...]:
        """The layers as a list."""
        return self.layers if isinstance(self.layers, tuple) else (self.layers,)


class IndexOptions(TypedDict, total=False):
    """The settings as keywords of `build_index` and `plan`; what is left out has its default. See `BuildSettings`."""

    adapter: str | None
    dtype: str
    device: str
    device_map: DeviceMap | None
    max_memory: Mapping[str, str] | None
    quantization: str | None
    revision: str | None
    blocks: str | None
    trust_remote_code: bool
    layers: LayerRequest | Sequence[LayerRequest]
    methods: Sequence[str]
    precision: Precision
    dimensions: int | None
    contrast: bool
    base: str | None
    columns: Mapping[str, str] | None
    split: str | None
    template: str | None
    max_length: int
    truncation: Truncation
    append_eos: bool
    loss: LossOn
    date: str | None
    max_rejected: float
    shard_rows: int
    max_tokens: int
    n_probes: int
    seed: int


def build_settings(
    model: str | Path, data: str | Path, out: str | Path, options: Mapping[str, object]
) -> BuildSettings:
    """The settings with every path that is there made absolute. Raises InputError that names what cannot be used."""
    places = {"model": _absolute(model), "data": absolute_source(data), "out": str(place(out).expanduser().absolute())}
    if options.get("base") is None and options.get("adapter") is None:
        options = {**options, "base": named_base(places["model"])}
    for name in ("adapter", "base"):
        if options.get(name) is not None:
            places[name] = _absolute(str(options[name]))
    try:
        return BuildSettings.model_validate({**options, **places})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise InputError(
            "build_index cannot use these settings:\n  " + "\n  ".join(lines),
            f"Settings: {', '.join(BuildSettings.model_fields)}.",
            "See whence.index.settings.BuildSettings for what each takes.",
        ) from error


def _absolute(place: str | Path) -> str:
    """A path that is there as an absolute one, so that run.yaml works from anywhere; a hub name as it is."""
    path = Path(place).expanduser()
    return str(path.resolve()) if path.exists() else str(place)


__all__ = ["BuildSettings", "IndexOptions", "build_settings"]
