"""Plain, slow versions of targets and of the second stage."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from oracles import cosine_oracle, errors_oracle
from whence.data.examples import EncodedTurn


def nats_oracle(model: PreTrainedModel, turn: EncodedTurn) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each response token with its graph, and all hidden states [n_layers + 1, seq, hidden]."""
    ids = torch.tensor([turn.input_ids])
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_(True)
    output = model(inputs_embeds=embedded, output_hidden_states=True, use_cache=False)
    for hidden in output.hidden_states:
        hidden.retain_grad()
    log_probs = torch.log_softmax(output.logits[0], -1)
    places = range(turn.t, turn.t + turn.n_response)
    return torch.stack([-log_probs[i, ids[0, i + 1]] for i in places]), output.hidden_states


def target_oracle(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    bad: tuple[EncodedTurn, list[int]],
    wanted: tuple[EncodedTurn, list[int]] | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Errors of scale (sum of bad tokens' loss - sum of wanted ones') at every position that predicts a response token
    of the bad answer; the wanted answer counts at positions that have read the same tokens."""
    total = _errors(model, tokenizer, *bad, scale)
    if wanted is not None:
        subtracted, t = _errors(model, tokenizer, *wanted, scale), bad[0].t
        for j in range(min(len(total), len(subtracted))):
            if bad[0].input_ids[: t + j + 1] == wanted[0].input_ids[: t + j + 1]:
                total[j] -= subtracted[j]
    return total


def _errors(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, turn: EncodedTurn, tokens: list[int], scale: float
) -> Tensor:
    weights = torch.zeros(turn.n_response, dtype=torch.float64)
    weights[tokens] = scale
    return errors_oracle(model, tokenizer, turn, weights)


def late_oracle(target: Tensor, rows: list[Tensor], states: tuple[Tensor, list[Tensor]] | None) -> list[float]:
    """Scores of the second stage, pair by pair."""
    scores = []
    for t, row in enumerate(rows):
        best = []
        for p, asked in enumerate(target.tolist()):
            alike = [cosine_oracle(asked, one) for one in row.tolist()]
            if states is not None:
                said = [cosine_oracle(states[0][p].tolist(), one) for one in states[1][t].tolist()]
                alike = [max(a, 0) * max(b, 0) for a, b in zip(alike, said, strict=True)]
            best.append(max(alike))
        scores.append(sum(best) / len(best))
    return scores
