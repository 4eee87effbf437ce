"""A model that a device map divides says what the undivided one says: weights kept on the CPU and on the disk."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload

from adapters import make_adapter
from tiny import VOCAB_SIZE, tiny_model
from whence.data.examples import EncodedTurn
from whence.errors import InputError, ModelError
from whence.model.checkpoint import check_finite
from whence.model.fingerprints import fingerprint
from whence.model.generation import generate
from whence.model.likelihood import token_shifts
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.model.placement import Placement, is_offloaded, memory_limits, parse_limits, weights_of
from whence.signatures.extract import Extractor
from whence.signatures.types import Extracted
from worlds import save_model

ON_DISK = {"cpu": "110KB"}
"""The embeddings of the tiny Llama fit; all else stays on the disk."""


def limits(place: Path, share: float) -> dict[str, str]:
    """So much of the model's bytes may be in memory; the rest stays on the disk."""
    return {"cpu": f"{int(share * (place / 'model.safetensors').stat().st_size)}B"}


def divided(place: Path | str, memory: dict[str, str] | None = None, **settings: object) -> LoadedModel:
    given = {"model": str(place), "device_map": "auto", "max_memory": memory or ON_DISK, "dtype": "float32"}
    try:
        return load_model(ModelSettings.model_validate(given | settings))
    except ModelError as error:
        if "wholly on the disk" in str(error):
            pytest.skip(str(error))
        raise


def whole(place: Path | str, **settings: object) -> LoadedModel:
    return load_model(
        ModelSettings.model_validate({"model": str(place), "device": "cpu", "dtype": "float32"} | settings)
    )


def turns(n: int = 5, seed: int = 3) -> list[EncodedTurn]:
    rng, made = random.Random(seed), []
    for _ in range(n):
        prompt, response = rng.randint(2, 14), rng.randint(1, 9)
        ids = tuple(rng.randrange(4, VOCAB_SIZE) for _ in range(prompt + response))
        made.append(EncodedTurn(0, ids, prompt, "", (), "", ""))
    return made


def assert_same(found: Extracted, expected: Extracted) -> None:
    for layer, signatures in expected.layers.items():
        for name, vectors in signatures.named().items():
            assert torch.equal(found.layers[layer].named()[name], vectors), (layer, name)
    assert torch.equal(found.loss, expected.loss)
    if expected.log_likelihood_gain is not None:
        assert torch.equal(found.log_likelihood_gain, expected.log_likelihood_gain)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("placed") / "model")


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
@pytest.mark.parametrize("share", [0.7, 0.0])
def test_signatures_and_hashes_are_those_of_the_undivided_model(family: str, share: float, tmp_path: Path) -> None:
    place = save_model(tmp_path / "model", family)
    ours, theirs = divided(place, limits(place, share)), whole(place)
    assert is_offloaded(ours.model)
    assert not is_offloaded(theirs.model)
    assert fingerprint(ours, "") == fingerprint(theirs, "")
    found, expected = (Extractor(loaded, [0, 2, loaded.n_layers]).extract(turns()) for loaded in (ours, theirs))
    assert_same(found, expected)


def test_token_gradients_errors_and_answers_are_those_of_the_undivided_model(model: Path) -> None:
    ours, theirs = divided(model), whole(model)
    found, expected = (
        Extractor(loaded, [1, loaded.n_layers]).extract(turns(), token_gradients=True) for loaded in (ours, theirs)
    )
    assert found.tokens is not None
    assert expected.tokens is not None
    for layer, tokens in expected.tokens.items():
        for side in ("H", "E", "G"):
            pairs = zip(getattr(found.tokens[layer], side), getattr(tokens, side), strict=True)
            assert all(torch.equal(one, other) for one, other in pairs)
    prompts = [turn.input_ids[: turn.response_start] for turn in turns()]
    assert generate(ours, prompts, max_new_tokens=6) == generate(theirs, prompts, max_new_tokens=6)


def test_weights_kept_in_memory_by_accelerate_itself(model: Path) -> None:
    """accelerate's cpu_offload, which is what a device map does with the layers that no GPU holds."""
    tokenizer = whole(model).tokenizer
    plain = tiny_model()
    offloaded = LoadedModel.wrap(cpu_offload(tiny_model(), execution_device=torch.device("cpu")), tokenizer)
    assert is_offloaded(offloaded.model)
    expected = LoadedModel.wrap(plain, tokenizer)
    assert fingerprint(offloaded, "") == fingerprint(expected, "")
    assert_same(Extractor(offloaded, [2, 4]).extract(turns()), Extractor(expected, [2, 4]).extract(turns()))


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["down_proj", "k_proj"], "all-linear"])
@pytest.mark.parametrize("share", [0.7, 0.0])
def test_an_adapter_on_a_divided_base(targets: object, share: float, model: Path, tmp_path: Path) -> None:
    make_adapter(model, tmp_path / "adapter", "LORA", target_modules=targets)
    adapter = {"adapter": str(tmp_path / "adapter")}
    before = (model / "model.safetensors").read_bytes()
    ours, theirs = divided(model, limits(model, share), **adapter), whole(model, **adapter)
    assert is_offloaded(ours.model)
    assert ours.adapter_off_is_base
    assert fingerprint(ours, "") == fingerprint(theirs, "")
    vectors = [(4, "dm"), (4, "eh"), (2, "dh"), (4, "h")]
    found, expected = (Extractor(loaded, vectors=vectors, contrast=True).extract(turns()) for loaded in (ours, theirs))
    assert_same(found, expected)
    assert (model / "model.safetensors").read_bytes() == before
    assert {path.name for path in model.iterdir()} >= {"model.safetensors", "config.json"}
    assert not list(model.glob("*peft*"))


def test_a_base_given_as_a_second_model(model: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", seed=1)
    found = token_shifts(divided(other), turns(), base=divided(model))
    expected = token_shifts(whole(other), turns(), base=whole(model))
    mixed = token_shifts(divided(other), turns(), base=whole(model))
    for one, same, also in zip(expected, found, mixed, strict=True):
        assert torch.equal(one.gain, same.gain)
        assert torch.equal(one.gain, also.gain)
    vectors = [(4, "dm"), (2, "dh")]
    ours = Extractor(divided(other), vectors=vectors, contrast=True, base=divided(model)).extract(turns())
    theirs = Extractor(whole(other), vectors=vectors, contrast=True, base=whole(model)).extract(turns())
    assert_same(ours, theirs)


def test_the_averaged_head_follows_its_model_and_not_an_earlier_one(model: Path, tmp_path: Path) -> None:
    """What is kept of a head whose weights lie elsewhere belongs to that head alone."""
    other = save_model(tmp_path / "other", seed=1)
    for place in (model, other, model):
        found, expected = (Extractor(loaded, [4]).extract(turns()) for loaded in (divided(place), whole(place)))
        assert torch.equal(found.layers[4].named()["eh"], expected.layers[4].named()["eh"])


@pytest.mark.parametrize(
    ("kind", "changes", "why"),
    [
        ("LORA", {"use_dora": True}, "use_dora"),
        ("LORA", {"modules_to_save": ["lm_head"]}, "weights of the base"),
        ("IA3", {}, "of the type IA3"),
        ("LORA", {"bias": "all"}, "biases"),
        ("LORA", {"target_modules": ["embed_tokens"]}, "weights of the base"),
    ],
)
def test_adapters_that_need_the_bases_weights_are_refused(
    kind: str, changes: dict[str, object], why: str, model: Path, tmp_path: Path
) -> None:
    make_adapter(model, tmp_path / "adapter", kind, **changes)
    with pytest.raises(ModelError, match=why) as refused:
        divided(model, adapter=str(tmp_path / "adapter"))
    assert "merge_and_unload" in str(refused.value)


def test_weights_on_the_disk_are_checked_for_nan(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    place = save_model(tmp_path / "model")
    weights = load_file(place / "model.safetensors")
    weights["model.layers.3.mlp.up_proj.weight"][1, 2] = torch.nan
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 of the weights .* NaN or infinity \(model.layers.3.mlp.up_proj.weight\)"):
        divided(place)


def test_a_weight_of_another_shape_on_the_disk_is_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    place = save_model(tmp_path / "model")
    weights = load_file(place / "model.safetensors")
    weights["model.layers.3.mlp.up_proj.weight"] = torch.zeros(3, 32)
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="up_proj"):
        divided(place)


def test_every_weight_can_be_read_and_none_stays(model: Path) -> None:
    loaded = divided(model)
    stored = weights_of(loaded.model)
    assert not any(read().is_meta for read in stored.values())
    check_finite(loaded.model, "it")
    assert all(weight.is_meta for weight in loaded.blocks.layers[3].state_dict().values())


def test_limits_are_read_and_wrong_ones_refused() -> None:
    assert parse_limits({"0": "1.5GiB", "cpu": "200kB"}) == {0: 3 << 29, "cpu": 200_000}
    assert memory_limits(None) is None
    for wrong in ({"cpu": "much"}, {"disk": "1GB"}, {"gpu": "1GB"}, {"cpu": "-1GB"}, {"cpu": ""}):
        with pytest.raises(InputError, match="--max-memory"):
            parse_limits(wrong)
    with pytest.raises(InputError, match="does not have"):
        memory_limits({"77": "1GiB"})


def test_a_device_map_stands_in_the_place_of_a_device(model: Path) -> None:
    with pytest.raises(InputError, match="--device cpu with --device-map auto"):
        divided(model, device="cpu")
    with pytest.raises(InputError, match="--max-memory without --device-map"):
        whole(model, max_memory=ON_DISK)
    assert ModelSettings(model="m", device_map="auto").placement == Placement("auto", "auto", None)


def test_it_is_said_where_the_weights_are(model: Path) -> None:
    said: list[str] = []
    settings = ModelSettings(model=str(model), device_map="auto", max_memory=limits(model, 0.7))
    load_model(settings, notify=said.append)
    assert any("cpu" in one and "disk" in one and "%" in one for one in said)


def test_gradients_of_parameters_that_lie_elsewhere_are_refused(model: Path) -> None:
    from whence.methods.gradients.parameters import choose_parameters

    with pytest.raises(ModelError, match="device map"):
        choose_parameters(divided(model), "all")
