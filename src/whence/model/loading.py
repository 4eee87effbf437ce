"""One place that loads the model under diagnosis: checkpoint, adapter, tokenizer, quantisation, dtype and device."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict

from whence.errors import ModelError
from whence.model.blocks import Blocks, find_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    adapter: str | None = None
    dtype: Literal["auto", "float64", "float32", "float16", "bfloat16"] = "auto"
    device: str = "auto"
    quantization: Literal["4bit", "8bit"] | None = None
    revision: str | None = None
    blocks: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be read: in eval mode, no parameter with a gradient, its blocks found."""

    model: PreTrainedModel
    """The causal LM; a PEFT model when there is an adapter."""
    tokenizer: PreTrainedTokenizerBase
    settings: ModelSettings
    blocks: Blocks

    @classmethod
    def wrap(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings | None = None
    ) -> LoadedModel:
        """Takes a model that is already in memory. It is put into eval mode and its parameters are frozen."""
        model.eval().requires_grad_(False)
        if next(model.parameters()).dtype == torch.float64 and hasattr(model, "set_experts_implementation"):
            # The fused kernels for mixtures of experts know no float64.
            model.set_experts_implementation("eager")
        settings = settings or ModelSettings(model=getattr(model, "name_or_path", "") or type(model).__name__)
        return cls(model, tokenizer, settings, find_blocks(model, settings.blocks))

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
    def device(self) -> torch.device:
        """Where the input ids go."""
        return self.model.get_input_embeddings().weight.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the hidden states."""
        return self.model.get_input_embeddings().weight.dtype  # type: ignore[no-any-return]

    @property
    def pad_id(self) -> int:
        """A token id for padding; masked out, so any id serves where the tokenizer has none."""
        return int(self.tokenizer.pad_token_id or 0)


def load_model(settings: ModelSettings) -> LoadedModel:
    """Loads model, adapter and tokenizer. Raises ModelError with what was found and what to do."""
    from transformers import AutoModelForCausalLM

    settings = _settle_adapter_folder(settings)
    _check_place(settings.model, "config.json", "model")
    device = _device(settings.device)
    kwargs: dict[str, object] = {
        "dtype": _dtype(settings.dtype, device),
        "trust_remote_code": settings.trust_remote_code,
        "use_safetensors": True,
        "revision": settings.revision,
    }
    if settings.quantization is not None:
        kwargs |= {"quantization_config": _quantization(settings, device), "device_map": {"": device}}
    try:
        model = AutoModelForCausalLM.from_pretrained(settings.model, **kwargs)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"No causal language model could be loaded from {settings.model!r}: {_first_line(error)}",
            "Expected a folder saved by save_pretrained (config.json, model.safetensors) or a hub name.",
            "Check the path; weights must be safetensors, never pickle; own code needs --trust-remote-code.",
        ) from error
    if settings.quantization is None:
        model = model.to(device)
    if settings.adapter is not None:
        model = _with_adapter(model, settings.adapter)
    return LoadedModel.wrap(model, load_tokenizer(settings), settings)


def load_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    """The adapter's tokenizer where it has one (it may bring its own template), else the model's."""
    from transformers import AutoTokenizer

    places = [settings.model]
    if settings.adapter is not None and (Path(settings.adapter) / "tokenizer_config.json").exists():
        places.insert(0, settings.adapter)
    try:
        return AutoTokenizer.from_pretrained(
            places[0], trust_remote_code=settings.trust_remote_code, revision=settings.revision
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"No tokenizer could be loaded from {places[0]!r}: {_first_line(error)}",
            "Expected tokenizer.json and tokenizer_config.json beside the model.",
            "Save the tokenizer there with tokenizer.save_pretrained.",
        ) from error


def _settle_adapter_folder(settings: ModelSettings) -> ModelSettings:
    """A model folder that is really an adapter's means: that adapter, on the base that it names."""
    folder = Path(settings.model)
    config = folder / "adapter_config.json"
    if settings.adapter is not None or not config.exists() or (folder / "config.json").exists():
        return settings
    base = json.loads(config.read_text("utf-8")).get("base_model_name_or_path")
    if not base:
        raise ModelError(
            f"{folder} holds an adapter whose config names no base model.",
            "An adapter needs the model it was trained on.",
            f"Give both: whence index BASE DATA --adapter {folder}.",
        )
    return settings.model_copy(update={"model": base, "adapter": str(folder)})


def _check_place(place: str, needed: str, what: str) -> None:
    folder = Path(place)
    if folder.is_dir():
        if not (folder / needed).exists():
            names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
            raise ModelError(
                f"The folder {place} is no {what}: it has no {needed} (it holds {names}).",
                f"Expected a folder saved by save_pretrained, with {needed}.",
                "Give the folder that holds it, or a hub name.",
            )
    elif folder.exists() or not HUB_NAME.fullmatch(place):
        raise ModelError(
            f"There is no {what} folder at {place!r}.",
            f"Expected a folder with {needed}, or a hub name such as org/name.",
            "Check the path for a typing error.",
        )


def _with_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    _check_place(adapter, "adapter_config.json", "adapter")
    if Path(adapter).is_dir() and not (Path(adapter) / "adapter_model.safetensors").exists():
        raise ModelError(
            f"The adapter {adapter} has no adapter_model.safetensors.",
            "whence reads safetensors only, never pickle.",
            "Save it again with a current peft (save_pretrained writes safetensors).",
        )
    from peft import PeftModel
    from peft.utils import get_peft_model_state_dict, load_peft_weights

    name = type(model).__name__
    try:
        wrapped = PeftModel.from_pretrained(model, adapter, is_trainable=False, use_safetensors=True)
        stored, present = load_peft_weights(adapter, device="cpu"), get_peft_model_state_dict(wrapped)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"The adapter {adapter} does not fit {name}: {_first_line(error)}",
            "An adapter fits only the model it was trained on.",
            f"{_named_base(adapter)} Give that one as MODEL.",
        ) from error
    strange = sorted(set(stored) ^ set(present))
    if strange:
        raise ModelError(
            f"The adapter {adapter} does not fit {name}: {len(strange)} of its weights have no place there or are "
            f"missing, the first {strange[0]}.",
            "An adapter fits only the model it was trained on.",
            f"{_named_base(adapter)} Give that one as MODEL.",
        )
    return wrapped


def _named_base(adapter: str) -> str:
    config = Path(adapter) / "adapter_config.json"
    base = json.loads(config.read_text("utf-8")).get("base_model_name_or_path") if config.exists() else None
    return f"Its config names the base model {base!r}." if base else "Its config names no base model."


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
            f"The device {name!r} cannot be used here: {_first_line(error)}",
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
            "Install whence[quantized] on a machine with a GPU, or leave --quantization out.",
        )
    from transformers import BitsAndBytesConfig

    four = settings.quantization == "4bit"
    return BitsAndBytesConfig(load_in_4bit=four, load_in_8bit=not four, bnb_4bit_compute_dtype=torch.bfloat16)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
