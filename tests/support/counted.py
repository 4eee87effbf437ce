"""Work counted in positions that go through decoders, not in seconds."""

from __future__ import annotations

from torch import nn

from whence.model.loading import LoadedModel
from whence.model.prefixes import shares_prefixes


def tokens_run(*models: LoadedModel) -> list[int]:
    """Grows by the positions, padding included, of each pass of these models' decoders; none may have a graph."""
    seen: list[int] = []

    def hook(module: nn.Module, args: object, output: object) -> None:
        last = output.last_hidden_state  # type: ignore[attr-defined]
        assert not last.requires_grad
        seen.append(last[..., 0].numel())

    for model in models:
        shares_prefixes(model)  # proven before anything is counted
        model.blocks.decoder.register_forward_hook(hook)
    return seen
