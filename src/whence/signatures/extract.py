"""Signatures of encoded turns: the hidden state of the last prompt token and the gradient of the loss there.

    h(z) = H(l)[t]        g(z) = dL/dH(l)[t]        L = mean cross-entropy of the response tokens, nats per token

(RepT, arXiv 2510.02334, section 3.) The values are those of a full forward and a full backward pass of one example at a
time; the work is less. H(l) at t depends only on positions up to t, and a gradient at t only on positions from t on, so

1. the prompt before t runs without a graph and leaves only its keys and values,
2. the positions from t on run on top of that cache, without a graph up to layer l, with one above it,
3. logits are computed only where a response token is predicted, a bounded number at a time,
4. no parameter has a gradient, and the last response token, which predicts nothing, is not run at all.

What fine-tuning taught (`Signatures.dm`, the weights of `eh`) costs one more pass without a graph, of the model before
it; the words' errors in `eh` one more pass backward through the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from whence.data.batching import batches
from whence.data.examples import EncodedTurn
from whence.errors import ModelError, NonFiniteError
from whence.model.before import before_tuning
from whence.model.blocks import Blocks, captured
from whence.model.loading import LoadedModel
from whence.model.same_words import same_words
from whence.signatures.head import LOGITS_AT_ONCE, gradient_scale, loss_and_gradients, wide
from whence.signatures.padding import PaddedBatch, padded, tail_positions
from whence.signatures.sketch import answer_sketch
from whence.signatures.types import LEAST_RISE, Extracted, Signatures, TokenGradients


class Extractor:
    """Extracts signatures from one loaded model at one or several layers.

    layers: numbers l, 0 <= l <= n_layers (0: embedding output; n_layers: after the final norm).
    max_tokens: padded tokens in one batch. It bounds memory; the values do not depend on it beyond rounding.
    contrast: also compare with the model before fine-tuning: `base`, or the adapter turned off.

    Raises:
        ModelError: a layer that is not there, or a base of another shape.
        InputError: nothing to compare with.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        layers: Sequence[int],
        *,
        max_tokens: int = 2048,
        contrast: bool = False,
        base: LoadedModel | None = None,
    ) -> None:
        wrong = [layer for layer in layers if not 0 <= layer <= loaded.n_layers]
        if wrong or not layers:
            raise ModelError(
                f"There is no layer {wrong[0]} in this model." if wrong else "No layer was given.",
                f"Layers go from 0 (the embedding output) to {loaded.n_layers} (after the final norm).",
                "Choose one with --layer, or let --layer auto choose.",
            )
        self.layers = tuple(sorted(set(layers)))
        self.loaded = loaded
        self.max_tokens = max_tokens
        self._blocks: Blocks = loaded.blocks
        self._same_words = same_words(loaded.tokenizer, loaded.vocab_size).to(loaded.device)
        self._contrast, self._base = contrast, base
        if contrast:
            with before_tuning(loaded, base) as untuned:
                _check_shape(loaded, untuned)

    def extract(
        self,
        turns: Sequence[EncodedTurn],
        *,
        token_gradients: bool = False,
        loss_weights: Sequence[Float[Tensor, " n"]] | None = None,
        labels: Callable[[int], str] | None = None,
    ) -> Extracted:
        """Signatures of all turns, in their order, as float32 (float64 of a float64 model) on the CPU.

        token_gradients: also return H, G and E at every position that predicts a response token.
        loss_weights: one weight a response token, per turn: the loss, and with it every gradient, is that of
            L = sum_j loss_weights[i][j] nats[j] in place of the mean. Left out: 1/n each.
        labels: names turn i in the error for values that are not finite.

        A batch that runs out of memory is halved and run again. Raises NonFiniteError.
        """
        if loss_weights is not None:
            assert [len(weights) for weights in loss_weights] == [turn.n_response for turn in turns]
        done: list[tuple[list[int], Extracted]] = []
        for indices in batches(turns, max_tokens=self.max_tokens):
            for equal in self._without_masked_rows(turns, indices):
                done.extend(self._within_memory(turns, equal, token_gradients, loss_weights))
        result = _in_order(done, len(turns), self.layers, token_gradients)
        _check_finite(result, labels or (lambda i: f"turn {i}"))
        return result

    def _without_masked_rows(self, turns: Sequence[EncodedTurn], indices: list[int]) -> list[list[int]]:
        """The batch, split by prompt length where the model cannot bear a padded prompt.

        transformers' eager attention takes its softmax in float32, where float64's mask value is minus infinity: a
        padding position that may look at nothing becomes NaN, and spreads. Only float64 with eager attention is so.
        """
        eager = getattr(self.loaded.text_config, "_attn_implementation", None) == "eager"
        if not (eager and self.loaded.dtype == torch.float64):
            return [indices]
        lengths = sorted({turns[i].n_prompt for i in indices})
        return [[i for i in indices if turns[i].n_prompt == length] for length in lengths]

    def _within_memory(
        self,
        turns: Sequence[EncodedTurn],
        indices: list[int],
        token_gradients: bool,
        loss_weights: Sequence[Tensor] | None,
    ) -> list[tuple[list[int], Extracted]]:
        weights = None if loss_weights is None else [loss_weights[i] for i in indices]
        try:
            return [(indices, self._run([turns[i] for i in indices], token_gradients, weights))]
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(indices) == 1:
                turn = turns[indices[0]]
                raise ModelError(
                    f"Out of memory on a single example of {len(turn.input_ids)} tokens.",
                    "One example must fit beside the model.",
                    "Lower --max-length, choose a higher --layer, or use a smaller --dtype.",
                ) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = len(indices) // 2
        self.max_tokens = max(1, self.max_tokens // 2)
        return [
            part
            for piece in (indices[:half], indices[half:])
            for part in self._within_memory(turns, piece, token_gradients, loss_weights)
        ]

    def _run(
        self, turns: Sequence[EncodedTurn], token_gradients: bool, loss_weights: Sequence[Tensor] | None
    ) -> Extracted:
        batch = padded(turns, self.loaded.pad_id, self.loaded.device, loss_weights)
        n_response = batch.tail_mask.sum(1)
        cache = self._run_prefix(batch, self.loaded)
        with torch.enable_grad(), captured(self._blocks, self.layers) as seen:
            last_hidden = self._decode(
                batch.tail,
                torch.cat([batch.prefix_mask, batch.tail_mask], 1),
                tail_positions(batch),
                cache,
                self.loaded,
            )
        loss, last_gradient, errors, nats = loss_and_gradients(
            self.loaded, self._same_words, last_hidden.detach(), batch
        )
        states = seen | {self.loaded.n_layers: last_hidden}
        inner = [layer for layer in self.layers if layer < self.loaded.n_layers]
        gradients = {self.loaded.n_layers: last_gradient}
        if inner:
            found = torch.autograd.grad(last_hidden, [states[layer] for layer in inner], last_gradient)
            gradients.update(zip(inner, found, strict=True))
        scale = gradient_scale(self.loaded.dtype)
        out = torch.float64 if self.loaded.dtype == torch.float64 else torch.float32
        H = {layer: states[layer].detach().to("cpu", out) for layer in self.layers}
        G = {layer: gradients[layer].detach().to("cpu", out) / scale for layer in self.layers}
        E = errors.to("cpu", out) / scale
        counts = n_response.cpu()
        weights, rise = batch.tail_mask.to(out), None
        if self._contrast:
            H0, nats0 = self._before(batch, out)
            weights = weights * (nats0 - nats).clamp_min(LEAST_RISE).to(out)
            rise = (nats0 - nats).to("cpu", torch.float64).sum(1)
        signatures = {
            layer: Signatures(
                h=H[layer][:, 0].clone(),
                g=G[layer][:, 0].clone(),
                m=_mean(H[layer], counts),
                eh=answer_sketch(errors, states[layer].detach(), weights).cpu(),
            )
            for layer in self.layers
        }
        if self._contrast:
            signatures = {
                layer: replace(signatures[layer], dm=_mean(H[layer] - H0[layer], counts)) for layer in self.layers
            }
        return Extracted(
            layers=signatures,
            loss=loss.to("cpu", out),
            n_response=counts,
            tokens={layer: _tokens(H[layer], G[layer], E, counts) for layer in self.layers}
            if token_gradients
            else None,
            rise=rise,
        )

    @torch.no_grad()
    def _before(
        self, batch: PaddedBatch, out: torch.dtype
    ) -> tuple[dict[int, Float[Tensor, "batch seq hidden"]], Float[Tensor, "batch seq"]]:
        """States at each layer, and nats of each response token (0 in the padding), before fine-tuning."""
        with before_tuning(self.loaded, self._base) as untuned:
            inner = [layer for layer in self.layers if layer < untuned.n_layers]
            cache = self._run_prefix(batch, untuned)
            with captured(untuned.blocks, inner, leaf=False) as seen:
                last = self._decode(
                    batch.tail,
                    torch.cat([batch.prefix_mask, batch.tail_mask], 1),
                    tail_positions(batch),
                    cache,
                    untuned,
                )
            states = seen | {untuned.n_layers: last}
            real = batch.tail_mask.bool()
            hidden, targets = last[real], batch.targets[real]
            step = max(1, LOGITS_AT_ONCE // untuned.vocab_size)
            pieces = [
                F.cross_entropy(
                    wide(untuned.blocks.head(hidden[i : i + step])), targets[i : i + step], reduction="none"
                )
                for i in range(0, len(hidden), step)
            ]
        nats = torch.zeros(real.shape, dtype=pieces[0].dtype, device=real.device)
        nats[real] = torch.cat(pieces)
        return {layer: states[layer].to("cpu", out) for layer in self.layers}, nats

    @torch.no_grad()
    def _run_prefix(self, batch: PaddedBatch, model: LoadedModel) -> object | None:
        """Keys and values of the prompts before t; None when no prompt has more than one token."""
        if batch.prefix.shape[1] == 0:
            return None
        from transformers import DynamicCache

        cache: object = DynamicCache(config=model.text_config)
        positions = (batch.prefix_mask.cumsum(1) - 1).clamp_min(0)
        self._decode(batch.prefix, batch.prefix_mask, positions, cache, model)
        return cache

    @staticmethod
    def _decode(
        ids: Tensor, mask: Tensor, positions: Tensor, cache: object | None, model: LoadedModel
    ) -> Float[Tensor, "batch seq hidden"]:
        extra: dict[str, object] = {"position_ids": positions} if model.blocks.takes_position_ids else {}
        if cache is not None:
            extra["past_key_values"] = cache
        output = model.blocks.decoder(input_ids=ids, attention_mask=mask, use_cache=cache is not None, **extra)
        hidden: Tensor = output.last_hidden_state
        return hidden


def _mean(H: Tensor, counts: Tensor) -> Float[Tensor, "batch hidden"]:
    """Mean of the first counts[i] positions of row i; the rest is padding."""
    real = torch.arange(H.shape[1])[None] < counts[:, None]
    return torch.where(real[..., None], H, torch.zeros_like(H)).sum(1) / counts[:, None].to(H.dtype)


def _check_shape(loaded: LoadedModel, before: LoadedModel) -> None:
    """Raises ModelError unless the states of both models can be subtracted."""
    shapes = [(model.n_layers, model.hidden_size) for model in (loaded, before)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"The base has {shapes[1][0]} layers of width {shapes[1][1]}, the model {shapes[0][0]} of {shapes[0][1]}.",
            "States of the model before and after fine-tuning are compared.",
            "Give the model that was fine-tuned with --base.",
        )


def _tokens(H: Tensor, G: Tensor, E: Tensor, counts: Tensor) -> TokenGradients:
    lengths = counts.tolist()
    G_, H_, E_ = (tuple(raw[i, :n].clone() for i, n in enumerate(lengths)) for raw in (G, H, E))
    return TokenGradients(G=G_, H=H_, E=E_)


def _in_order(
    done: list[tuple[list[int], Extracted]], n: int, layers: Sequence[int], token_gradients: bool
) -> Extracted:
    """Puts the batches' results back into the order in which the turns were given."""
    order = [i for indices, _ in done for i in indices]
    back = torch.empty(n, dtype=torch.long)
    back[torch.tensor(order, dtype=torch.long)] = torch.arange(n)
    parts = [part for _, part in done]

    def joined(pick: Callable[[Extracted], Tensor]) -> Tensor:
        return torch.cat([pick(part) for part in parts])[back]

    signatures = {
        layer: Signatures(**{name: joined(partial(_vector, layer=layer, name=name)) for name in names})
        for layer in layers
        if (names := parts[0].layers[layer].named())
    }
    rise = None if parts[0].rise is None else joined(_rise)
    tokens: dict[int, TokenGradients] | None = None
    if token_gradients:
        tokens = {}
        for layer in layers:
            found = [part.tokens[layer] for part in parts if part.tokens is not None]
            places = back.tolist()
            G, H, E = ([rows for part in found for rows in getattr(part, name)] for name in ("G", "H", "E"))
            tokens[layer] = TokenGradients(*(tuple(rows[i] for i in places) for rows in (G, H, E)))
    return Extracted(signatures, joined(lambda part: part.loss), joined(lambda part: part.n_response), tokens, rise)


def _vector(part: Extracted, layer: int, name: str) -> Tensor:
    return part.layers[layer].named()[name]


def _rise(part: Extracted) -> Tensor:
    assert part.rise is not None
    return part.rise


def _check_finite(result: Extracted, labels: Callable[[int], str]) -> None:
    bad = ~result.loss.isfinite()
    for signatures in result.layers.values():
        for vectors in signatures.named().values():
            bad |= ~vectors.isfinite().all(1)
    if bad.any():
        rows = bad.nonzero()[:, 0].tolist()
        named = ", ".join(labels(i) for i in rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
        raise NonFiniteError(
            f"The signature of {named} holds NaN or infinity (loss {result.loss[rows[0]].item()}).",
            "Every value of a signature must be finite.",
            "Try --dtype float32 or bfloat16; if it stays, the model's weights or that row are broken.",
        )


def _is_out_of_memory(error: BaseException) -> bool:
    """CUDA has its own exception; the CPU allocator raises a RuntimeError that only its text tells apart."""
    text = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )
