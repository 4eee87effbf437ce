"""One place that loads the model under diagnosis: checkpoint, adapter, tokenizer, quantisation, dtype and device."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, field_validator

from whence.errors import InputError, ModelError, install_extra
from whence.model.adapter import fit, read_adapter, refuse_type, triggers
from whence.model.adapter_place import Place, settle, with_named_base
from whence.model.adapter_proof import probe_ids, prove_states
from whence.model.blocks import Blocks, find_blocks
from whence.model.checkpoint import check_finite, check_quantisation, load_checkpoint, quiet, stored_quantisation
from whence.model.placement import DeviceMap, Placement, memory_limits, parse_limits, run_device
from whence.model.places import check_place, first_line
from whence.model.tokenizer_place import TokenizerPlace, brings_tokenizer, choose_tokenizer
from whence.model.vocabulary import check_vocabulary, count_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class ModelSettings(BaseModel):
    """What to load and how. `model` is a folder or a hub name; `adapter` a folder (or hub name) saved by PEFT.

    dtype "auto" is the checkpoint's own on an accelerator and float32 on a CPU, where half precision is slower and
    coarser. device "auto" is the first CUDA device, then MPS, then the CPU. 4 and 8 bit need CUDA and bitsandbytes.
    device_map, max_memory: in place of one device, see `whence.model.Placement`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    adapter: str | None = None
    dtype: Literal["auto", "float64", "float32", "float16", "bfloat16"] = "auto"
    device: str = "auto"
    device_map: DeviceMap | None = None
    max_memory: dict[str, str] | None = None
    quantization: Literal["4bit", "8bit"] | None = None
    revision: str | None = None
    blocks: str | None = None
    trust_remote_code: bool = False

    @field_validator("max_memory")
    @classmethod
    def _limits_can_be_read(cls, limits: dict[str, str] | None) -> dict[str, str] | None:
        parse_limits(limits or {})
        return limits

    @property
    def placement(self) -> Placement:
        """Where the model is put."""
        return Placement(self.device, self.device_map, self.max_memory)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be read: in eval mode, no parameter with a gradient, its blocks found."""

    model: PreTrainedModel
    """The causal LM; a PEFT model when there is an adapter."""
    tokenizer: PreTrainedTokenizerBase
    settings: ModelSettings
    blocks: Blocks
    adapter_off_is_base: bool = True
    """Whether the model is its base again once its adapter is turned off. Biases and embeddings that were trained in
    place stay; then the base has to be loaded by itself."""

    @classmethod
    def wrap(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings | None = None
    ) -> LoadedModel:
        """Takes a model that is already in memory. It is put into eval mode and its parameters are frozen.

        Raises ModelError for an adapter that does not act where whence reads; see `whence.model.adapter_proof`.
        """
        model.eval().requires_grad_(False)
        if next(model.parameters()).dtype == torch.float64 and hasattr(model, "set_experts_implementation"):
            # The fused kernels for mixtures of experts know no float64.
            model.set_experts_implementation("eager")
        settings = settings or ModelSettings(model=getattr(model, "name_or_path", "") or type(model).__name__)
        configs = model.peft_config if hasattr(model, "get_base_model") else {}
        name = settings.adapter or settings.model
        for config in configs.values():
            refuse_type(name, config)
        blocks = find_blocks(model, settings.blocks)
        for config in configs.values():
            vocab = int(model.get_input_embeddings().weight.shape[0])
            kind = str(getattr(config.peft_type, "value", config.peft_type))
            with quiet():
                prove_states(model, blocks, probe_ids(model, vocab, triggers(config)), f"{name} ({kind})")
        return cls(model, tokenizer, settings, blocks)

    @property
    def text_config(self) -> object:
        """The config of the language model (of its text part, if it has several)."""
        return self.model.config.get_text_config()

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.blocks.layers)

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return int(self.text_config.hidden_size)  # type: ignore[attr-defined]

    @property
    def max_length(self) -> int | None:
        """Most positions the model can take; None where its config names no limit."""
        limit = getattr(self.text_config, "max_position_embeddings", None)
        return int(limit) if limit else None

    def fitting(self, max_length: int) -> int:
        """The most tokens of one example: as asked, but no more than the model has positions."""
        return min(max_length, self.max_length or max_length)

    @property
    def vocab_size(self) -> int:
        """Number of logits."""
        return int(self.text_config.vocab_size)  # type: ignore[attr-defined]

    @property
    def n_embeddings(self) -> int:
        """For how many tokens the model has an embedding; its tokenizer may know more."""
        return count_embeddings(self.model)

    @property
    def device(self) -> torch.device:
        """Where the input ids go, and where what is read of a model on several devices comes together."""
        return run_device(self.model.get_input_embeddings())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the hidden states."""
        return self.model.get_input_embeddings().weight.dtype  # type: ignore[no-any-return]

    @property
    def pad_id(self) -> int:
        """A token id for padding; masked out, so any id serves where the tokenizer has none."""
        own = int(self.tokenizer.pad_token_id or 0)
        return own if own < self.model.get_input_embeddings().weight.shape[0] else 0


def load_model(
    settings: ModelSettings, *, template_given: bool = False, notify: Callable[[str], None] | None = None
) -> LoadedModel:
    """Loads model, adapter and tokenizer; notify is called with a sentence on what was not as usual.

    template_given: see `load_tokenizer`.

    Raises ModelError, with what was found and what to do, unless what is loaded is what was trained: every weight in
    its place, an adapter that acts where whence reads, and an embedding for every token.
    """
    place = settle(settings.model, settings.adapter, settings.revision)
    settings = settings.model_copy(update={"model": place.model, "adapter": place.adapter, "revision": place.revision})
    check_place(settings.model, "config.json", "model")
    options = _options(settings, _device(settings.device))
    adapter = None if settings.adapter is None else read_adapter(settings.adapter)
    # Before the weights, which take longer.
    tokenizer = load_tokenizer(settings, template_given=template_given, notify=notify)
    model = _whole_model(place, settings, options, notify or (lambda sentence: None))
    off_is_base = True
    if adapter is not None:
        model, off_is_base = fit(model, adapter)
    own_tokens = settings.adapter if brings_tokenizer(settings.adapter) else None
    check_vocabulary(tokenizer, model, own_tokens, settings.model)
    return replace(LoadedModel.wrap(model, tokenizer, settings), adapter_off_is_base=off_is_base)


def _whole_model(
    place: Place, settings: ModelSettings, options: dict[str, object], tell: Callable[[str], None]
) -> PreTrainedModel:
    """The model without its adapter, on its device. Raises ModelError that names the adapter which names it."""
    changed = options.get("offload_folder")
    if isinstance(changed, TemporaryDirectory):
        options = options | {"offload_folder": changed.name}
    try:
        model = load_checkpoint(settings.model, options, tell)
    except ModelError as error:
        if place.named_by is None or Path(settings.model).is_dir():
            raise
        raise with_named_base(error, place.named_by) from error
    if "device_map" not in options:
        model = model.to(_device(settings.device))
    check_finite(model, settings.model)
    if isinstance(changed, TemporaryDirectory):
        weakref.finalize(model, changed.cleanup)
        tell(_spread(model))
    return model


def _spread(model: PreTrainedModel) -> str:
    """Where the device map put the weights, as in "cuda:0 34%, cpu 66%"."""
    found = getattr(model, "hf_device_map", None) or {"": run_device(model)}
    bytes_of: Counter[str] = Counter()
    for name, weight in model.named_parameters():
        place = max((part for part in found if not part or f"{name}.".startswith(f"{part}.")), key=len, default="")
        device = str(found.get(place, run_device(model)))
        bytes_of[f"cuda:{device}" if device.isdecimal() else device] += weight.numel() * weight.element_size()
    shares = ", ".join(f"{device} {size / bytes_of.total():.0%}" for device, size in bytes_of.items())
    return f"The weights are on: {shares}"


def _options(settings: ModelSettings, device: torch.device) -> dict[str, object]:
    """The options of from_pretrained. Raises ModelError for weights stored quantised that cannot be read here."""
    options: dict[str, object] = {
        "dtype": _dtype(settings.dtype, device),
        "trust_remote_code": settings.trust_remote_code,
        "use_safetensors": True,
        "revision": settings.revision,
    }
    stored = stored_quantisation(settings.model, settings.revision)
    if stored is not None:
        check_quantisation(settings.model, stored, device, settings.adapter, settings.quantization)
        options["device_map"] = {"": device}
    if settings.quantization is not None:
        options |= {"quantization_config": _quantization(settings, device), "device_map": {"": device}}
    if settings.device_map is not None:
        if settings.device != "auto":
            raise InputError(
                f"--device {settings.device} with --device-map {settings.device_map}.",
                "A device map spreads the model over the devices of this machine.",
                "Leave --device out; --max-memory says how much of each may be taken.",
            )
        options |= {"device_map": settings.device_map, "max_memory": memory_limits(settings.max_memory)}
        # For weights that transformers changes while it reads them (experts), where they end up on the disk.
        options["offload_folder"] = TemporaryDirectory(prefix="whence-offload-", ignore_cleanup_errors=True)
    elif settings.max_memory:
        raise InputError(
            "--max-memory without --device-map.", "It limits what a device map may take.", "Add --device-map auto."
        )
    return options


def load_tokenizer(
    settings: ModelSettings, *, template_given: bool = False, notify: Callable[[str], None] | None = None
) -> PreTrainedTokenizerBase:
    """The adapter's tokenizer and chat template where it has them, else the model's.

    template_given: another template will be used, so that an adapter's tokenizer needs none of the model's.
    notify is called with a sentence where one is the adapter's and the other the model's. Raises ModelError where there
    is no tokenizer, or where the adapter's files do not go with the model's.
    """
    place = TokenizerPlace(
        settings.model, settings.adapter, settings.revision, settings.trust_remote_code, template_given
    )
    return choose_tokenizer(place, notify or (lambda sentence: None))


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"The device {name!r} cannot be used here: {first_line(error)}",
            "Expected cpu, cuda, cuda:N or mps, as this machine has it.",
            "Leave --device out to take what is there.",
        ) from error
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype | str:
    if name != "auto":
        return DTYPES[name]
    return torch.float32 if device.type != "cuda" else "auto"


def _quantization(settings: ModelSettings, device: torch.device) -> object:
    from importlib.util import find_spec

    if device.type != "cuda" or find_spec("bitsandbytes") is None:
        missing = "a CUDA device" if device.type != "cuda" else "the package bitsandbytes"
        raise ModelError(
            f"Loading in {settings.quantization} needs {missing}, which is not here.",
            "4 and 8 bit run on CUDA with bitsandbytes.",
            f"Leave --quantization out, or go to a machine with a GPU. {install_extra('quantized')}",
        )
    from transformers import BitsAndBytesConfig

    four = settings.quantization == "4bit"
    return BitsAndBytesConfig(load_in_4bit=four, load_in_8bit=not four, bnb_4bit_compute_dtype=torch.bfloat16)
