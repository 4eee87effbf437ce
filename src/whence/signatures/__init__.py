"""The method's core: states and gradients of encoded turns, with and without fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.signatures.extract import Extractor
    from whence.signatures.passes import splits_prompts
    from whence.signatures.sketch import SKETCH_DIM, split_mix
    from whence.signatures.types import (
        MIN_TOKEN_GAIN,
        NEEDS_BASE,
        VECTORS,
        Extracted,
        Place,
        Signatures,
        TokenGradients,
    )

__all__ = [
    "MIN_TOKEN_GAIN",
    "NEEDS_BASE",
    "SKETCH_DIM",
    "VECTORS",
    "Extracted",
    "Extractor",
    "Place",
    "Signatures",
    "TokenGradients",
    "split_mix",
    "splits_prompts",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "extract": ["Extractor"],
        "passes": ["splits_prompts"],
        "sketch": ["SKETCH_DIM", "split_mix"],
        "types": ["Extracted", "MIN_TOKEN_GAIN", "NEEDS_BASE", "Place", "Signatures", "TokenGradients", "VECTORS"],
    },
)
