"""Where a model's files are, on this disk or in the hub's cache, and which of them is missing or damaged."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import JsonValue

from whence.errors import ModelError
from whence.files import did_you_mean

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
WHOLE_WEIGHTS = (
    "model*.safetensors",
    WEIGHTS_INDEX,
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
    "pytorch_model.bin.index.json",
)
"""Weights of a whole model. Others, such as FSDP's `pytorch_model_fsdp.bin`, may be of an adapter alone."""
PICKLED = ("pytorch_model*.bin", "adapter_model.bin")


def is_hub_name(place: str) -> bool:
    """Whether a place that is no folder can be a name on the hub, such as org/name."""
    return HUB_NAME.fullmatch(place) is not None


def check_place(place: str, needed: str, what: str) -> None:
    """Raises ModelError unless `place` is a folder that holds the file `needed`, or can be a hub name."""
    folder = Path(place)
    if folder.is_dir():
        if not (folder / needed).exists():
            names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
            raise ModelError(
                f"The folder {place} is no {what}: it has no {needed} (it holds {names}).",
                f"Expected a folder saved by save_pretrained, with {needed}.",
                _folders_inside(folder, needed) or "Give the folder that holds it, or a hub name.",
            )
    elif folder.exists() or not is_hub_name(place):
        raise ModelError(
            f"There is no {what} folder at {place!r}.",
            f"Expected a folder with {needed}, or a hub name such as org/name.",
            did_you_mean(place, _folders_beside(folder), "Check the path for a typing error."),
        )


def stored_file(place: str, name: str, revision: str | None = None) -> Path | None:
    """The file `name` of a folder, or of a hub model (fetched if it is not in the cache); None if there is none.

    Raises ModelError for a hub model of which nothing is in the cache while the hub cannot be reached.
    """
    if Path(place).exists():
        path = Path(place) / name
        return path if path.is_file() else None
    if not is_hub_name(place):
        return None
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # Asked first: without a network each question to the hub takes half a minute.
        cached = try_to_load_from_cache(place, name, revision=revision)
        if cached is None:
            return Path(hf_hub_download(place, name, revision=revision))
    except LocalEntryNotFoundError as error:
        known = (try_to_load_from_cache(place, own, revision=revision) for own in ("config.json", ADAPTER_CONFIG))
        if not any(isinstance(path, str) for path in known):
            raise _not_reached(place, error) from error
        return None
    except (OSError, ValueError):
        return None
    return Path(cached) if isinstance(cached, str) else None


def is_cached(place: str, name: str) -> bool:
    """Whether the file `name` of a hub model is in the cache; the hub is not asked."""
    from huggingface_hub import try_to_load_from_cache

    return is_hub_name(place) and isinstance(try_to_load_from_cache(place, name), str)


def _folders_beside(place: Path) -> list[str]:
    """Folders beside a path that is not there, as that path would name them."""
    around = place.parent
    return [str(one) for one in sorted(around.iterdir()) if one.is_dir()] if around.is_dir() else []


def _folders_inside(folder: Path, needed: str) -> str:
    """The sentence that names folders in this one which are a model or an adapter; "" where there is none."""
    found = [
        str(one) for one in sorted(folder.iterdir()) if any((one / name).exists() for name in (needed, ADAPTER_CONFIG))
    ]
    return f"Give one of the folders in it: {', '.join(found[:4])}." if found else ""


def _not_reached(place: str, error: Exception) -> ModelError:
    folders = _folders_beside(Path(place))
    check = "Check the name and the connection, or give the path of a folder."
    return ModelError(
        f"{place!r} is no folder here, and the hub did not give it: {first_line(error)}.",
        "Expected a folder, or the name of a model on the hub that can be reached or is in the cache.",
        did_you_mean(place, folders, check),
    )


def local_folder(place: str, patterns: list[str]) -> Path:
    """A folder as it is; of a hub model the folder in the cache, with the files of these patterns fetched."""
    if Path(place).exists():
        return Path(place)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(place, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise _not_reached(place, error) from error


def has_weights(place: str, revision: str | None = None) -> bool:
    """Whether the weights of a whole model are there, beside those of an adapter perhaps."""
    if Path(place).is_dir():
        return any(any(Path(place).glob(pattern)) for pattern in WHOLE_WEIGHTS)
    from huggingface_hub import file_exists, try_to_load_from_cache

    for name in (WEIGHTS, WEIGHTS_INDEX):
        try:
            cached = try_to_load_from_cache(place, name, revision=revision)
            if isinstance(cached, str) or (cached is None and file_exists(place, name, revision=revision)):
                return True
        except (OSError, ValueError):
            continue
    return False


def is_adapter(place: str, revision: str | None = None) -> bool:
    """Whether an adapter is there, without the weights of a whole model."""
    return stored_file(place, ADAPTER_CONFIG, revision) is not None and not has_weights(place, revision)


def read_json(path: Path, what: str) -> dict[str, JsonValue]:
    """The object that a JSON file holds. Raises ModelError that names a damaged file."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged: {first_line(error)}.",
            f"Expected the JSON of {what}, as save_pretrained writes it.",
            "Copy or download that file again, or save it again.",
        ) from error
    if not isinstance(content, dict):
        raise ModelError(
            f"{path} is damaged: it holds a {type(content).__name__}, not an object.",
            f"Expected the JSON of {what}, as save_pretrained writes it.",
            "Copy or download that file again, or save it again.",
        )
    return content


def adapter_config(place: str) -> dict[str, JsonValue]:
    """The config of an adapter. Raises ModelError where there is none, or a damaged one."""
    path = stored_file(place, ADAPTER_CONFIG)
    if path is None:
        check_place(place, ADAPTER_CONFIG, "adapter")
        raise ModelError(
            f"{place} has no {ADAPTER_CONFIG}.", "Expected an adapter.", "Give the folder or hub name of one."
        )
    return read_json(path, "an adapter's config")


def check_json_files(folder: Path, names: list[str]) -> None:
    """Raises ModelError that names the first of these files that is there and is no JSON object."""
    for name in names:
        if (folder / name).is_file():
            read_json(folder / name, "a tokenizer" if "token" in name else "a model")


def check_weight_files(folder: Path) -> None:
    """Raises ModelError that names the first of the folder's weight files that is missing or cut off.

    Only the headers are read: a header says how long its file is.
    """
    index = folder / WEIGHTS_INDEX
    names: set[str] = set()
    if index.is_file() and not (folder / WEIGHTS).is_file():
        named = read_json(index, "an index of weight files").get("weight_map")
        names = {str(name) for name in named.values()} if isinstance(named, dict) else set()
        if not names:
            raise ModelError(
                f"{index} is damaged: it names no weights.",
                "Expected a weight_map from the name of each weight to its file.",
                "Copy or download that file again, or save the model again.",
            )
    for name in sorted(names or {path.name for path in folder.glob("*.safetensors")}):
        path = folder / name
        if not path.is_file():
            raise ModelError(
                f"{path} is missing: {WEIGHTS_INDEX} says that weights are in it.",
                f"Expected all {len(names)} files that the index names.",
                "Copy or download the rest of the model, or save it again.",
            )
        check_safetensors(path)


def check_safetensors(path: Path) -> None:
    """Raises ModelError for a weight file whose header cannot be read or does not fit its length."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged: {first_line(error)}.",
            "Expected a whole safetensors file; one whose copy or download was cut off cannot be read.",
            "Copy or download that file again, or save the model again.",
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message (and the next, where the first ends in a colon), without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines = [f"{lines[0]} {lines[1]}"]
    return (lines[0] if lines else type(error).__name__)[:300].removesuffix(".")


__all__ = [
    "ADAPTER_CONFIG",
    "ADAPTER_WEIGHTS",
    "PICKLED",
    "adapter_config",
    "check_json_files",
    "check_place",
    "check_safetensors",
    "check_weight_files",
    "first_line",
    "has_weights",
    "is_adapter",
    "is_cached",
    "is_hub_name",
    "local_folder",
    "read_json",
    "stored_file",
]
