"""What an index costs over reading its rows: index time / time of two plain batched loss evaluations of the same rows.

    python benchmarks/cost.py                        a random Llama of 98M parameters, a random base beside it
    python benchmarks/cost.py --model FOLDER         a real model under a random LoRA adapter of rank 16

The plain evaluations are `model(ids, attention_mask, labels)` of the fine-tuned model and of the one before it, in
batches of the same token budget, sorted by length, in the same dtype; nothing else is read. The index's time is that of
`Extractor.extract` for the default form, of the same rows in the same process. Both alternate; medians and spread are
printed as JSON. `--profile` shows where the extraction's time goes.

`--released` times the released method's cost structure too: a batch of one, a forward pass of the prompt, a full
forward and a full backward pass with LoRA gradients (r = 4 at q_proj and v_proj, as in the paper), on a model of its
own of the same shape and dtype, which has no base to read.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from random import Random
from statistics import median

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from common import default_extractor
from whence.data.examples import EncodedTurn
from whence.model.before import before_tuning
from whence.model.loading import DTYPES, LoadedModel

IGNORED = -100
"""The label that transformers' loss leaves out."""


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a checkpoint; left out: random weights, 98M parameters")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=60, help="mean prompt tokens")
    parser.add_argument("--response", type=int, default=40, help="mean response tokens")
    parser.add_argument("--max-tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--released", action="store_true")
    args = parser.parse_args()
    tuned, base = subject(args.model, DTYPES[args.dtype], args.device)
    turns = random_turns(args.rows, args.prompt, args.response, tuned.vocab_size)
    extractor = default_extractor(tuned, base, args.max_tokens)
    work: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_losses(tuned, base, turns, args.max_tokens),
        "index": lambda: extractor.extract(turns),
    }
    if args.released:
        trained = trainable(args.model, DTYPES[args.dtype], args.device)
        work["released"] = lambda: released_costs(trained, turns)
    seconds = timed(work, args.repeats, tuned.device)
    ratios = [index / plain for index, plain in zip(seconds["index"], seconds["plain"], strict=True)]
    found = {
        "model": args.model or "random Llama, 98M",
        "parameters": sum(parameter.numel() for parameter in tuned.model.parameters()),
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": str(tuned.device),
        "dtype": args.dtype,
        "rows": args.rows,
        "tokens": sum(len(turn.input_ids) for turn in turns),
        "response_tokens": sum(turn.n_response for turn in turns),
        "vectors": [f"{name}_{layer}" for layer, name in extractor.vectors],
        "plain_seconds": spread(seconds["plain"]),
        "index_seconds": spread(seconds["index"]),
        "index_over_plain": spread(ratios),
    }
    if args.released:
        over = [released / index for released, index in zip(seconds["released"], seconds["index"], strict=True)]
        found |= {"released_seconds": spread(seconds["released"]), "released_over_index": spread(over)}
    print(json.dumps(found, indent=2))
    if args.profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            extractor.extract(turns)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=40))


def subject(folder: str | None, dtype: torch.dtype, device: str) -> tuple[LoadedModel, LoadedModel | None]:
    """The fine-tuned model and its base; None where that is the model with its adapter turned off."""
    torch.manual_seed(0)
    if folder is None:
        tuned, base = (LoadedModel.wrap(random_llama().to(device, dtype), plain_tokenizer()) for _ in range(2))
        return tuned, base
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device)
    config = LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config).to(dtype)
    return LoadedModel.wrap(adapted, AutoTokenizer.from_pretrained(folder)), None


def trainable(folder: str | None, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """A model of the same shape whose LoRA takes gradients."""
    from peft import LoraConfig, get_peft_model

    model = random_llama() if folder is None else AutoModelForCausalLM.from_pretrained(folder)
    config = LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return get_peft_model(model.to(device, dtype), config).to(dtype).eval()


def released_costs(model: PreTrainedModel, turns: Sequence[EncodedTurn]) -> None:
    """One turn at a time: prompt forward, full forward, full backward."""
    for turn in turns:
        ids = torch.tensor([turn.input_ids], device=model.device)
        with torch.no_grad():
            model(input_ids=ids[:, : turn.response_start], output_hidden_states=True, use_cache=False)
        labels = ids.clone()
        labels[:, : turn.response_start] = IGNORED
        output = model(input_ids=ids, labels=labels, output_hidden_states=True, use_cache=False)
        output.hidden_states[-2].retain_grad()
        output.loss.backward()
        model.zero_grad(set_to_none=True)


def random_llama() -> PreTrainedModel:
    """98 million parameters in the shape of a small chat model."""
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=640,
        intermediate_size=1_728,
        num_hidden_layers=12,
        num_attention_heads=10,
        num_key_value_heads=10,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def plain_tokenizer() -> object:
    """A tokenizer of numbers: which tokens are one word changes no time."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocab = {str(token): token for token in range(32_000)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocab, unk_token="0")), pad_token="0")


def random_turns(n: int, prompt: int, response: int, vocab_size: int) -> list[EncodedTurn]:
    """Rows of many lengths: each part between half and one and a half times its mean."""
    rng = Random(0)
    turns = []
    for _ in range(n):
        sizes = [rng.randint(max(1, mean // 2), mean + mean // 2) for mean in (prompt, response)]
        ids = tuple(rng.randrange(vocab_size) for _ in range(sum(sizes)))
        turns.append(EncodedTurn(0, ids, sizes[0], "", (), "", ""))
    return turns


@torch.no_grad()
def plain_losses(
    tuned: LoadedModel, base: LoadedModel | None, turns: Sequence[EncodedTurn], max_tokens: int
) -> list[float]:
    """The loss of each batch, with each of the two models."""
    losses = []
    for batch in by_length(turns, max_tokens):
        width = max(len(turn.input_ids) for turn in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for row, turn in enumerate(batch):
            length = len(turn.input_ids)
            ids[row, :length] = torch.tensor(turn.input_ids)
            mask[row, :length] = 1
            labels[row, turn.response_start : length] = ids[row, turn.response_start : length]
        ids, mask, labels = (part.to(tuned.device) for part in (ids, mask, labels))
        losses.append(tuned.model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss.item())
        with before_tuning(tuned, base) as untuned:
            found = untuned.model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False)
            losses.append(found.loss.item())
    return losses


def by_length(turns: Sequence[EncodedTurn], max_tokens: int) -> list[list[EncodedTurn]]:
    """Sorted by length, as many in a batch as fit the budget."""
    batches: list[list[EncodedTurn]] = [[]]
    for turn in sorted(turns, key=lambda turn: len(turn.input_ids)):
        if batches[-1] and (len(batches[-1]) + 1) * len(turn.input_ids) > max_tokens:
            batches.append([])
        batches[-1].append(turn)
    return batches


def timed(work: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each, one after the other in every round; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(repeats + 1):
        for name, run in work.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": round(median(values), 3), "least": round(min(values), 3), "most": round(max(values), 3)}


if __name__ == "__main__":
    main()
