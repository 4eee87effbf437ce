"""What words cost, counted in work: forward tokens over those of reading the rows once with both models."""

from __future__ import annotations

import random

import pytest

from counted import tokens_run
from tiny import CHAT_TEMPLATE, CORPUS, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example, Turn
from whence.model.loading import LoadedModel
from whence.scoring.defaults import SCORES
from whence.scoring.forms import Depths
from whence.trace.explain.attribution import explain
from whence.trace.explain.prompt_attribution.comparison import Comparison

MOST = {6: 5.0, 20: 5.0, 60: 8.0}
"""By words of a prompt: times reading the ten rows once with both models; the words of the query are in it."""

SYSTEM = "Write a short poem about the sea, the wind and a small boat."


def rows_of(encoder: Encoder, n: int, n_words: int) -> list[EncodedTurn]:
    rng, words = random.Random(0), [word for text in CORPUS[:5] for word in text.split()]

    def some(n: int) -> str:
        return " ".join(rng.choice(words) for _ in range(n))

    made = (
        Example((Turn("system", SYSTEM), Turn("user", some(n_words)), Turn("assistant", some(8)))) for _ in range(n)
    )
    return [turn for example in made for turn in encoder.encode(example)]


@pytest.mark.parametrize("n_words", MOST)
def test_words_of_ten_rows_cost_few_readings_with_both_models(n_words: int) -> None:
    tuned, base = (
        LoadedModel.wrap(tiny_model("llama", seed=seed, max_position_embeddings=1024), tiny_tokenizer(CHAT_TEMPLATE))
        for seed in (0, 1)
    )
    query, *rows = rows_of(Encoder(tuned.tokenizer), 11, n_words)
    form = SCORES["rept-centred"]
    comparison = Comparison(tuned, form, form.layers(Depths(2, 4)), base=base)
    seen = tokens_run(tuned, base)
    found = explain(comparison, query, rows, read_shifts=True)
    assert len(found.hits) == 10
    once = 2 * sum(len(row.input_ids) for row in rows)
    assert sum(seen) <= MOST[n_words] * once
