"""Prompt methods: occlusion equals full passes of the shortened turn; gradients equal finite differences."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from compared import LAYERS, made, plain_score, plain_scorer
from oracles import pairs_oracle, signature_oracle
from oracles_words import occlusion_oracle
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example
from whence.errors import InputError
from whence.scoring.vectors import to_block
from whence.signatures.types import Signatures
from whence.trace.explain.prompt_attribution.comparison import Comparison, without
from whence.trace.explain.prompt_attribution.gradients import IntegratedGradients
from whence.trace.explain.prompt_words import PROMPT_METHODS, prompt_method, prompt_words
from whence.trace.explain.words import word_tokens

BOUND = 1e-9
"""float64; rounding of sums in another order."""
STEP, SLOPE_BOUND = 1e-3, 5e-5
"""Llama's norms compute in float32 whatever the model's dtype: a difference of scores is off by about 1e-8 / STEP."""


def plain_loss(comparison: Comparison, turn: EncodedTurn, weights: torch.Tensor) -> float:
    return signature_oracle(comparison.loaded.model, turn, 4, weights / weights.sum())[4]


def flat(turns: list[EncodedTurn]) -> list[torch.Tensor]:
    return [torch.ones(turn.n_response, dtype=torch.float64) for turn in turns]


@pytest.mark.parametrize(
    ("form", "method", "longest"), [("rept-centred", "occlusion-span", 3), ("g-cosine", "occlusion", 1)]
)
def test_occlusion_is_the_fall_of_the_whole_score(form: str, method: str, longest: int) -> None:
    comparison, (query, *rows) = made(form)
    score = comparison.against_query(comparison.block([query]))
    for row, words in zip(rows, prompt_words(comparison, rows, score, flat(rows), method), strict=True):
        spans, tokens = word_tokens(row, "prompt")
        expected = occlusion_oracle(plain_scorer(comparison, query), row, [list(own) for own in tokens], longest)
        assert words.spans == spans
        assert words.word_method == method
        assert words.scores == pytest.approx(expected, abs=BOUND)


def test_the_query_is_scored_against_all_rows() -> None:
    comparison, (query, *rows) = made()
    (words,) = prompt_words(
        comparison, [query], comparison.against_rows(comparison.block(rows)), flat([query]), "occlusion"
    )
    expected = occlusion_oracle(
        lambda turn: sum(plain_score(comparison, turn, row) for row in rows) / 2,
        query,
        [list(own) for own in word_tokens(query, "prompt")[1]],
        1,
    )
    assert words.scores == pytest.approx(expected, abs=BOUND)


def test_words_of_a_long_prompt_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whence.trace.explain.prompt_attribution.occlusion.MAX_UNITS", 3)
    comparison, (query, *_) = made()
    score = comparison.against_query(comparison.block([query]))
    (words,) = prompt_words(comparison, [query], score, flat([query]), "loss-occlusion")
    tokens = [list(own) for own in word_tokens(query, "prompt")[1]]
    assert len(tokens) == 7
    units = [[token for own in tokens[start : start + 3] for token in own] for start in (0, 3, 6)]
    ones = torch.ones(query.n_response, dtype=torch.float64)
    a, b, c = occlusion_oracle(lambda turn: -plain_loss(comparison, turn, ones), query, units, 1)
    assert words.scores == pytest.approx([a, a, a, b, b, b, c], abs=BOUND)


def test_loss_occlusion_is_the_rise_of_the_weighted_loss() -> None:
    comparison, (query, *rows) = made()
    lit = [torch.arange(row.n_response, dtype=torch.float64) for row in rows]
    score = comparison.against_query(comparison.block([query]))
    found = prompt_words(comparison, rows, score, lit, "loss-occlusion")
    for row, weights, words in zip(rows, lit, found, strict=True):
        tokens = [list(own) for own in word_tokens(row, "prompt")[1]]
        expected = occlusion_oracle(lambda turn: -plain_loss(comparison, turn, weights), row, tokens, 1)  # noqa: B023
        assert words.scores == pytest.approx(expected, abs=BOUND)


def test_nothing_lit_weighs_every_token_alike() -> None:
    comparison, turns = made()
    score = comparison.against_query(comparison.block(turns[:1]))
    dark = [torch.zeros(turn.n_response, dtype=torch.float64) for turn in turns]
    for method in ("loss-occlusion", "both"):
        found, expected = (prompt_words(comparison, turns, score, lit, method) for lit in (dark, flat(turns)))
        for a, b in zip(found, expected, strict=True):
            assert a.scores == pytest.approx(b.scores, abs=BOUND)


def test_both_needs_both() -> None:
    comparison, (query, *rows) = made()
    score = comparison.against_query(comparison.block([query]))
    falls, rises, both = (
        prompt_words(comparison, rows, score, flat(rows), name) for name in ("occlusion", "loss-occlusion", "both")
    )
    for fall, rise, words in zip(falls, rises, both, strict=True):
        f, r = ([max(0.0, one) for one in side.scores] for side in (fall, rise))
        expected = [(a / (sum(f) or 1) * b / (sum(r) or 1)) ** 0.5 for a, b in zip(f, r, strict=True)]
        assert words.scores == pytest.approx(expected, abs=BOUND)


def from_embeddings(comparison: Comparison, query: EncodedTurn, row: EncodedTurn, embedded: torch.Tensor) -> float:
    """The score with the row's embeddings replaced and its gradient half as it is; one full pass."""
    n, states = row.n_response, {}
    output = comparison.loaded.model(inputs_embeds=embedded, output_hidden_states=True, use_cache=False)
    for layer in LAYERS:
        H = output.hidden_states[layer][0, row.t : row.t + n]
        _, g, own, G, _ = signature_oracle(comparison.loaded.model, row, layer)
        states[layer] = Signatures(H[:1], g[None], H.mean(0)[None], pairs_oracle(G, own)[None])
    rows = to_block(states, comparison.centres)
    return comparison.form.function(comparison.block([query]), rows, comparison.roles).item()


def test_gradient_input_is_the_slope_along_the_words_own_embeddings() -> None:
    comparison, (query, row, _) = made()
    score = comparison.against_query(comparison.block([query]))
    (words,) = prompt_words(comparison, [row], score, flat([row]), "gradient-input")
    embedded = comparison.loaded.model.get_input_embeddings()(torch.tensor([row.input_ids])).detach()
    for own, found in zip(word_tokens(row, "prompt")[1], words.scores, strict=True):
        direction = torch.zeros_like(embedded)
        direction[0, list(own)] = embedded[0, list(own)]
        ahead, behind = (from_embeddings(comparison, query, row, embedded + x * direction) for x in (STEP, -STEP))
        expected = (ahead - behind) / (2 * STEP)
        assert found == pytest.approx(expected, rel=SLOPE_BOUND, abs=SLOPE_BOUND)


def test_integrated_gradients_add_up() -> None:
    comparison, (query, row, _) = made()
    score = comparison.against_query(comparison.block([query]))
    tokens = word_tokens(row, "prompt")[1]
    (values,) = IntegratedGradients(steps=200)(comparison, [row], [tokens], score, flat([row]))
    embedded = comparison.loaded.model.get_input_embeddings()(torch.tensor([row.input_ids])).detach()
    without_words = embedded.clone()
    without_words[0, [token for own in tokens for token in own]] = 0
    ends = [from_embeddings(comparison, query, row, at) for at in (embedded, without_words)]
    # The error of 200 midpoints along a path whose start is a sharp bend: the norm of a zero embedding.
    assert sum(values) == pytest.approx(ends[0] - ends[1], abs=0.02)


def test_prefix_gradients_are_the_slope_along_cached_keys_and_values() -> None:
    comparison, (query, row, _) = made()
    score = comparison.against_query(comparison.block([query]))
    (words,) = prompt_words(comparison, [row], score, flat([row]), "prefix-gradients")
    model, ids = comparison.loaded.model, torch.tensor([row.input_ids])

    def with_cache(own: tuple[int, ...], scale: float) -> float:
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(input_ids=ids[:, : row.t], past_key_values=cache, use_cache=True)
            for layer in cache.layers:
                layer.keys[:, :, list(own)] *= scale
                layer.values[:, :, list(own)] *= scale
            output = model(input_ids=ids[:, row.t :], past_key_values=cache, output_hidden_states=True)
        states = {}
        for layer in LAYERS:
            H = output.hidden_states[layer][0, : row.n_response]
            _, g, own, G, _ = signature_oracle(model, row, layer)
            states[layer] = Signatures(H[:1], g[None], H.mean(0)[None], pairs_oracle(G, own)[None])
        return score(to_block(states, comparison.centres)).item()

    for own, found in zip(word_tokens(row, "prompt")[1], words.scores, strict=True):
        expected = (with_cache(own, 1 + STEP) - with_cache(own, 1 - STEP)) / (2 * STEP)
        assert found == pytest.approx(expected, rel=SLOPE_BOUND, abs=SLOPE_BOUND)


def test_without_some_tokens_and_without_all() -> None:
    turn = EncodedTurn(0, (5, 6, 7, 8, 9), 3, "abcde", tuple((i, i + 1) for i in range(5)), "abc", "de")
    less = without(turn, {0, 2})
    assert (less.input_ids, less.response_start, less.offsets) == ((6, 8, 9), 1, ((1, 2), (3, 4), (4, 5)))
    assert without(turn, {0, 1, 2}).input_ids == (7, 8, 9)
    assert without(turn, {0, 3, 4}).input_ids == (6, 7, 9)


@pytest.mark.parametrize("method", sorted(PROMPT_METHODS))
def test_a_cut_off_word_has_score_0_and_a_prompt_without_words_has_none(method: str) -> None:
    comparison, (query, *_) = made()
    encoder = Encoder(comparison.loaded.tokenizer, max_length=24)
    pairs = [("one two three four five six seven eight", "nine ten."), ("?", "Yes, it is.")]
    rows = [turn for pair in pairs for turn in encoder.encode(Example.from_pair(*pair))]
    empty = EncodedTurn(0, rows[1].input_ids, 1, "", (), "", "")
    score = comparison.against_query(comparison.block([query]))
    cut, short, none = prompt_words(comparison, [*rows, empty], score, flat([*rows, empty]), method)
    assert rows[0].truncated
    assert cut.scores[0] == 0
    assert len(short.scores) == 1
    assert none.spans == none.scores == ()


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"no prompt method 'oclusion'[\s\S]*Did you mean occlusion"):
        prompt_method("oclusion")
    comparison, turns = made("g-cosine")
    score = comparison.against_query(comparison.block(turns[:1]))
    for method in ("gradient-input", "prefix-gradients"):
        with pytest.raises(InputError, match=r"g-cosine reads gradients only[\s\S]*occlusion"):
            prompt_words(comparison, turns, score, flat(turns), method)
