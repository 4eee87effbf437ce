"""What extraction costs, against the plain oracle's cost structure and against the floor of the hardware.

    python benchmarks/index_speed.py [--seed 0] [--rows 48] [--repeats 3] [--threads N] [--json out.json]

1. Against the oracle's cost structure: one example at a time, a forward pass of the prompt for h, then a full forward
   and a full backward pass with LoRA gradients for g (r = 4, alpha = 32, as in the paper), same dtype, machine and run.
   Two sets: short prompts (about 20 tokens, 80-token answers) and long ones (1,000 tokens, 50-token answers).
2. Against the floor, on a random-weight model of about 100M parameters: the multiply-adds that any exact method needs
   (forward of everything, backward of the layers after l over the response), at the matmul rate measured here at the
   model's own shapes.

Models have random weights: time does not depend on them. Times are ratios of medians within one run; repeats alternate.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from common import seconds
from whence.data.batching import batches
from whence.data.examples import EncodedTurn
from whence.model.loading import LoadedModel
from whence.signatures.extract import Extractor

SMALL = {
    "hidden_size": 256,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "intermediate_size": 704,
    "vocab_size": 8192,
}
LARGE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 2048,
    "vocab_size": 16384,
}
SHORT_PROMPTS, LONG_PROMPTS = (20, 80), (1000, 50)


@dataclass(frozen=True)
class Measured:
    """Median seconds of each side, and their spread over the repeats."""

    name: str
    ours: float
    other: float
    ratio: float
    ratios: list[float]


def random_model(shape: dict[str, int], seed: int) -> LlamaForCausalLM:
    """A Llama of that shape with random weights, float32."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=2048, tie_word_embeddings=True)).eval()


def wrap(model: LlamaForCausalLM) -> LoadedModel:
    """The model with a tokenizer that is never asked anything."""
    return LoadedModel.wrap(model, PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), pad_token="[PAD]"))


def random_turns(n: int, lengths: tuple[int, int], vocab: int, seed: int) -> list[EncodedTurn]:
    """Turns of about that many prompt and response tokens (within a fifth), as real sets have."""
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        prompt, response = (max(2, round(length * rng.uniform(0.8, 1.2))) for length in lengths)
        ids = tuple(rng.randrange(4, vocab) for _ in range(prompt + response))
        made.append(EncodedTurn(0, ids, prompt, "", (), "", ""))
    return made


def oracle_costs(model: LlamaForCausalLM, turns: Sequence[EncodedTurn], layer: int) -> None:
    """The plain procedure: batch of one, prompt forward, full forward, full backward with LoRA gradients."""
    for turn in turns:
        ids = torch.tensor([turn.input_ids])
        with torch.no_grad():
            model(input_ids=ids[:, : turn.response_start], output_hidden_states=True, use_cache=False)
        labels = ids.clone()
        labels[:, : turn.response_start] = -100
        output = model(input_ids=ids, labels=labels, output_hidden_states=True, use_cache=False)
        output.hidden_states[layer].retain_grad()
        output.loss.backward()
        model.zero_grad(set_to_none=True)


def against_oracle(name: str, lengths: tuple[int, int], rows: int, repeats: int, seed: int) -> Measured:
    """Seconds of the extractor and of the oracle's procedure on the same turns, alternating."""
    turns = random_turns(rows, lengths, SMALL["vocab_size"], seed)
    layer = SMALL["num_hidden_layers"] * 3 // 4
    extractor = Extractor(wrap(random_model(SMALL, seed)), [layer])
    lora = LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    plain = get_peft_model(random_model(SMALL, seed), lora).eval()
    extractor.extract(turns[:4])
    oracle_costs(plain, turns[:2], layer)
    ours, other = [], []
    for _ in range(repeats):
        ours.append(seconds(lambda: extractor.extract(turns)))
        other.append(seconds(lambda: oracle_costs(plain, turns, layer)))
    return summary(name, ours, other)


def summary(name: str, ours: list[float], other: list[float]) -> Measured:
    ratios = [theirs / mine for mine, theirs in zip(ours, other, strict=True)]
    return Measured(name, statistics.median(ours), statistics.median(other), statistics.median(ratios), ratios)


def needed_multiply_adds(turns: Sequence[EncodedTurn], layer: int) -> float:
    """Multiply-adds of any exact method: no padding, no prompt logits, no parameter gradients.

    Linear maps: every token through every layer once, response positions once more through the layers after l (the
    gradient of the activations), and through the head twice. Attention: two products per pair of positions (causal:
    half of the square) forward, four backward.
    """
    d, inner, vocab, n_layers = (
        LARGE[k] for k in ("hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers")
    )
    linear = 4 * d * d + 3 * d * inner
    total = 0.0
    for turn in turns:
        length, n = len(turn.input_ids) - 1, turn.n_response
        pairs = length * (length + 1) / 2
        tail_pairs = n * turn.t + n * (n + 1) / 2
        total += n_layers * (length * linear + 2 * pairs * d)
        total += (n_layers - layer) * (n * linear + 4 * tail_pairs * d)
        total += 2 * n * d * vocab
    return total


def matmul_rate(tokens: int, repeats: int) -> float:
    """Multiply-adds per second of this machine at the model's own matrix shapes, for `tokens` rows at a time."""
    d, inner, vocab = LARGE["hidden_size"], LARGE["intermediate_size"], LARGE["vocab_size"]
    shapes = [(d, d)] * 4 + [(d, inner)] * 2 + [(inner, d)]
    pairs = [(torch.randn(tokens, a), torch.randn(b, a)) for a, b in [*(shapes * 2), (d, vocab)]]
    work = sum(tokens * x.shape[1] * w.shape[0] for x, w in pairs)
    for x, w in pairs:
        torch.nn.functional.linear(x, w)
    times = [seconds(lambda: [torch.nn.functional.linear(x, w) for x, w in pairs]) for _ in range(repeats * 3)]
    return work / statistics.median(times)


@torch.no_grad()
def against_floor(rows: int, repeats: int, seed: int) -> tuple[Measured, dict[str, float]]:
    """Seconds of the extractor on a 100M-parameter model, and the floor measured in the same minutes."""
    turns = random_turns(rows, SHORT_PROMPTS, LARGE["vocab_size"], seed)
    model = random_model(LARGE, seed)
    layer = LARGE["num_hidden_layers"] * 3 // 4
    extractor = Extractor(wrap(model), [layer])
    extractor.extract(turns[:8])
    groups = list(batches(turns, max_tokens=extractor.max_tokens))
    tokens = sum(len(turns[i].input_ids) for i in groups[0])
    work = needed_multiply_adds(turns, layer)
    ours, floor = [], []
    for _ in range(repeats):
        floor.append(work / matmul_rate(tokens, repeats))
        ours.append(seconds(lambda: extractor.extract(turns)))
    facts = {
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "multiply_adds": work,
        "multiply_adds_per_second": work / statistics.median(floor),
        "tokens_per_second": sum(len(turn.input_ids) for turn in turns) / statistics.median(ours),
    }
    return summary("floor, 100M parameters", floor, ours), facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    short = against_oracle("short prompts", SHORT_PROMPTS, args.rows, args.repeats, args.seed)
    long = against_oracle("1,000-token prompts", LONG_PROMPTS, max(4, args.rows // 3), args.repeats, args.seed)
    floor, facts = against_floor(args.rows, args.repeats, args.seed)
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32, seed {args.seed}"
    )
    print("| measured | whence | oracle's procedure | times faster (each repeat) |\n|---|---|---|---|")
    for row in (short, long):
        each = ", ".join(f"{ratio:.2f}" for ratio in row.ratios)
        print(f"| {row.name} | {row.ours:.2f} s | {row.other:.2f} s | {row.ratio:.2f} ({each}) |")
    print("| measured | floor | whence | times the floor (each repeat) |\n|---|---|---|---|")
    each = ", ".join(f"{ratio:.2f}" for ratio in floor.ratios)
    size = f"{facts['parameters'] / 1e6:.0f}M parameters"
    print(f"| {size} | {floor.ours:.2f} s | {floor.other:.2f} s | {floor.ratio:.2f} ({each}) |")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(
                {"settings": vars(args), "short": vars(short), "long": vars(long), "floor": vars(floor) | facts}, file
            )


if __name__ == "__main__":
    main()
