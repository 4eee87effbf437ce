"""What a model that is not loaded would need: sizes as the built model has them, and the packing of its layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import Gemma3nTextConfig, LlamaConfig

from tiny import CONFIGS, tiny_model
from whence.data import Encoder, read_examples
from whence.errors import ModelError
from whence.model import ModelSettings, load_model, model_shape
from whence.planning import plan_settings, reckon
from whence.planning.arithmetic import devices_needed
from worlds import rows, save_model, write_jsonl

LLAMA_70B = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
PARAMETERS = 70_553_706_496
"""Of Llama 3 70B, as its model card has it: 70.6 billion."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("plan") / "train.jsonl", rows(24))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config alone."""
    folder = tmp_path_factory.mktemp("large")
    LlamaConfig(architectures=["LlamaForCausalLM"], dtype="bfloat16", **LLAMA_70B).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_sizes_from_a_config_are_those_of_the_model(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    model.config.save_pretrained(tmp_path)
    shape = model_shape(ModelSettings(model=str(tmp_path), dtype="float32"))
    assert shape.n_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.weights == 4 * shape.n_parameters
    assert (shape.n_layers, len(shape.parts)) == (4, 6)


def test_layers_of_different_widths_count_by_the_widest(tmp_path: Path) -> None:
    """Gemma 3n's config has a width for each layer."""
    config = Gemma3nTextConfig(
        hidden_size=32,
        intermediate_size=[64, 96, 64, 64],
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        vocab_size=300,
        vocab_size_per_layer_input=300,
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=2,
        layer_types=["full_attention"] * 4,
        activation_sparsity_pattern=[0.0] * 4,
    )
    config.save_pretrained(tmp_path)
    shape = model_shape(ModelSettings(model=str(tmp_path)))
    assert (shape.n_layers, shape.intermediate_size) == (4, 96)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_quantised_model_is_smaller_by_its_linear_layers(family: str, tmp_path: Path) -> None:
    tiny_model(family).config.save_pretrained(tmp_path)
    plain, four, eight = (
        model_shape(ModelSettings(model=str(tmp_path), dtype="bfloat16", quantization=bits))
        for bits in (None, "4bit", "8bit")
    )
    assert plain.n_parameters == four.n_parameters == eight.n_parameters
    for number in (0, -1):
        assert plain.parts[number] == four.parts[number] == eight.parts[number], "embedding and head stay"
    inside = [shape.parts[1] for shape in (plain, eight, four)]
    assert 0.45 * inside[0] < inside[1] < 0.6 * inside[0]
    assert 0.25 * inside[0] < inside[2] < 0.4 * inside[0]


def test_a_quantised_70b_model_takes_fewer_gpus(large: Path, data: Path) -> None:
    found = reckon(plan_settings(large, data, {"quantization": "4bit"}), gpu_memory=80 << 30)
    assert found.gpus[0].n_gpus == 1
    assert 0.5 * PARAMETERS < found.weights < 0.7 * PARAMETERS


def test_a_70b_model_on_gpus(large: Path, data: Path) -> None:
    found = reckon(plan_settings(large, data, {}), gpu_memory=80 << 30)
    assert found.n_parameters == PARAMETERS
    assert (found.weights, found.n_models, found.n_passes) == (2 * PARAMETERS, 1, 1)
    assert found.gpus[0].n_gpus == 2
    assert 0 < found.gpus[0].offloaded < found.weights
    with_base = reckon(plan_settings(large, data, {"base": "base"}), gpu_memory=80 << 30)
    assert (with_base.weights, with_base.n_passes) == (4 * PARAMETERS, 2)
    assert with_base.gpus[0].n_gpus == 4
    assert reckon(plan_settings(large, data, {}), gpu_memory=2 << 30).gpus[0].n_gpus is None
    assert found.tokens is None
    assert found.operations is None


def test_a_record_has_the_bytes_of_a_built_index(data: Path, tmp_path: Path) -> None:
    """Within a quarter; Lance's own overhead is not in it, and it compresses text."""
    from whence.index import Index, build_index

    model = save_model(tmp_path / "model", hidden_size=256, head_dim=64)
    many = write_jsonl(tmp_path / "many.jsonl", rows(400))
    build_index(model, many, tmp_path / "index", max_length=64)
    size = sum(path.stat().st_size for path in (tmp_path / "index" / "signatures.lance").rglob("*.lance"))
    found = reckon(plan_settings(model, many, {"max_length": 64}))
    assert found.n_records == Index.open(tmp_path / "index").n_records
    assert 0.75 < found.disk / size < 1.33


def test_operations_follow_from_tokens_and_passes(data: Path, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    found = reckon(plan_settings(model, data, {"base": str(model)}), rate=1e9)
    assert found.operations == pytest.approx(2 * found.n_parameters * found.tokens * 2 * 24)
    assert found.seconds == pytest.approx(found.operations / 1e9)
    assert load_model(ModelSettings(model=str(model))).n_layers == found.n_layers


def test_a_gradient_at_an_inner_layer_costs_a_backward_pass(data: Path, tmp_path: Path) -> None:
    """Over the layers above it, and the tokens of the responses; at the last layer there is none."""
    model = save_model(tmp_path / "model")
    loaded = load_model(ModelSettings(model=str(model), dtype="float32", device="cpu"))
    turns = [turn for row in read_examples(data) for turn in Encoder(loaded.tokenizer).encode(row)]
    in_layer = sum(weight.numel() for weight in loaded.blocks.layers[0].parameters())

    def operations(method: str, layer: int) -> float:
        settings = plan_settings(model, data, {"methods": [method], "layers": [layer], "dtype": "float32"})
        found = reckon(settings).operations
        assert found is not None
        return found

    expected = 2 * in_layer * sum(turn.n_response for turn in turns)
    assert operations("rept", 1) - operations("repsim", 1) == pytest.approx(3 * expected)
    assert operations("rept", 3) - operations("repsim", 3) == pytest.approx(expected)
    assert operations("rept", 4) == operations("repsim", 4)


def test_layers_are_packed_whole_and_in_order() -> None:
    assert devices_needed([4, 4, 4], 12) == 1
    assert devices_needed([4, 4, 4], 8) == 2
    assert devices_needed([4, 4, 4], 7) == 3
    assert devices_needed([4, 4, 4], 3) is None


def test_the_command_says_that_nothing_was_measured(whence, large: Path, data: Path) -> None:
    status, shown, said = whence("plan", large, data)
    assert status == 0, said
    assert "70.55 billion parameters" in shown
    assert "nothing was loaded or timed" in shown
    status, shown, _ = whence("plan", large, data, "--gpu-memory", "80GiB", "--json", "-")
    assert json.loads(shown)["gpus"][0]["n_gpus"] == 2


def test_wrong_input_is_one_message(whence, large: Path, data: Path, tmp_path: Path) -> None:
    for options, found in (
        (("--budget", "2h"), "--budget where nothing is measured"),
        (("--gpu-memory", "big"), "--gpu-memory 'big' cannot be read"),
        (("--layer", "99"), "Layers [99] were asked for"),
    ):
        status, shown, said = whence("plan", large, data, *options)
        assert (status, shown) == (2, "")
        assert found in said
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="no causal language model"):
        model_shape(ModelSettings(model=str(tmp_path)))
