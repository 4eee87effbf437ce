"""The version of each score form, which every result names. No torch is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

VERSIONS: Mapping[str, str] = MappingProxyType(
    {
        "g-cosine": "1",
        "repsim": "1",
        "rept": "1",
        "rept-balanced": "1",
        "rept-centred": "6",
        "rept-contrast": "7",
    }
)
"""A version changes whenever the same vectors would get other scores, or the form reads other vectors."""


__all__ = ["VERSIONS"]
