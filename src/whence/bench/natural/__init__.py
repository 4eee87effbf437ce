"""Faults in natural English, planted into instruction data of the user's own."""

from whence.bench.natural.planting import CLEAN, HARD_NEGATIVE, NATURAL_FAULTS, VARIANTS, PlantedRows, plant_natural

__all__ = ["CLEAN", "HARD_NEGATIVE", "NATURAL_FAULTS", "VARIANTS", "PlantedRows", "plant_natural"]
