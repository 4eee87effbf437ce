"""Plain, slow versions of everything that was made fast. They define what is correct."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from whence.data.examples import EncodedTurn


def signature_oracle(
    model: PreTrainedModel, turn: EncodedTurn, layer: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """h, g, H and G at the positions that predict a response token, and the loss; one example, no cache, full graph.

    The whole model runs forward and backward with all hidden states kept, as in the paper (method.md, Sample level).
    """
    ids = torch.tensor([turn.input_ids], device=model.device)
    n_layers = model.config.get_text_config().num_hidden_layers
    assert 0 <= layer <= n_layers
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(parameter.is_floating_point())
        output = model(input_ids=ids, output_hidden_states=True, use_cache=False)
        hidden = output.hidden_states[layer]
        hidden.retain_grad()
        predicting = slice(turn.t, turn.t + turn.n_response)
        log_probs = torch.log_softmax(output.logits[0, predicting], dim=-1)
        targets = ids[0, turn.response_start :]
        loss = -log_probs[torch.arange(turn.n_response), targets].mean()
        loss.backward()
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
            parameter.grad = None
    H, G = hidden.detach()[0, predicting], hidden.grad[0, predicting]
    return H[0], G[0], H, G, loss.item()
