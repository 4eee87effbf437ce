"""What a score is: forms over stored vectors, how deep each is read, the query expansion, and words in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.scoring.defaults import METHOD_WITHOUT_BASE, SCORES, default_method, score_form
    from whence.scoring.expansion import Expansion, expanded_block, expansion_weights
    from whence.scoring.forms import Depths, FormLayers, ScoreForm, Scores, form_scores
    from whence.scoring.lexical import BM25Index, bm25_scores
    from whence.scoring.representation import CosineMean
    from whence.scoring.vectors import (
        CENTRED,
        Block,
        Centres,
        RowBlock,
        VectorBlock,
        Vectors,
        queries_in,
        rows_of,
        to_block,
        to_vectors,
    )

__all__ = [
    "CENTRED",
    "METHOD_WITHOUT_BASE",
    "SCORES",
    "BM25Index",
    "Block",
    "Centres",
    "CosineMean",
    "Depths",
    "Expansion",
    "FormLayers",
    "RowBlock",
    "ScoreForm",
    "Scores",
    "VectorBlock",
    "Vectors",
    "bm25_scores",
    "default_method",
    "expanded_block",
    "expansion_weights",
    "form_scores",
    "queries_in",
    "rows_of",
    "score_form",
    "to_block",
    "to_vectors",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "defaults": ["SCORES", "METHOD_WITHOUT_BASE", "default_method", "score_form"],
        "expansion": ["Expansion", "expanded_block", "expansion_weights"],
        "forms": ["Depths", "FormLayers", "ScoreForm", "Scores", "form_scores"],
        "lexical": ["BM25Index", "bm25_scores"],
        "representation": ["CosineMean"],
        "vectors": [
            "Block",
            "CENTRED",
            "Centres",
            "RowBlock",
            "VectorBlock",
            "Vectors",
            "queries_in",
            "rows_of",
            "to_block",
            "to_vectors",
        ],
    },
)
