"""A query and its hits down to their words, against the plain maps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from oracles import errors_oracle, signature_oracle
from oracles_words import token_map_oracle, word_map_oracle
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example
from whence.errors import InputError
from whence.model.likelihood import TokenShift, learned_fraction
from whence.model.loading import LoadedModel
from whence.results import Words
from whence.scoring.defaults import SCORES
from whence.signatures.types import MIN_TOKEN_GAIN
from whence.trace.explain.attribution import Explained, explain
from whence.trace.explain.prompt_attribution.comparison import Comparison
from whence.trace.explain.prompt_words import DEFAULT_PROMPT_METHOD, prompt_words
from whence.trace.explain.response_words import (
    Maps,
    average_over_hits,
    contradicted,
    downweight_prompt_words,
    largest,
    learned,
    paper,
    shared,
    shares,
    subtract_column_mean,
)
from whence.trace.explain.words import word_spans, word_tokens

BOUND = 1e-6
"""Llama's norms compute in float32 whatever the model's dtype, so full and cached passes differ by some 1e-8."""

PAIRS = [("Where is Toronto?", "Toronto is in Korea."), ("Where is it?", "In Korea, 🙂 one."), ("Hi", "No, it is not.")]


def some_shifts(turns: list[EncodedTurn], scale: float, seed: int) -> list[TokenShift]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(turn.n_response,) for turn in turns]
    return [
        TokenShift(scale * torch.randn(n, generator=generator).double(), torch.rand(n, generator=generator).double())
        for n in sizes
    ]


def made(pairs: list[tuple[str, str]] = PAIRS) -> tuple[Comparison, list[EncodedTurn]]:
    loaded = LoadedModel.wrap(tiny_model("llama", dtype=torch.float64), tiny_tokenizer(CHAT_TEMPLATE))
    encoder = Encoder(loaded.tokenizer)
    turns = [turn for pair in pairs for turn in encoder.encode(Example.from_pair(*pair))]
    return Comparison(loaded, SCORES["rept-balanced"], (2, 4)), turns


def plain_map(comparison: Comparison, a: EncodedTurn, b: EncodedTurn, layer: int = 4) -> list[list[float]]:
    return token_map_oracle(*(signature_oracle(comparison.loaded.model, one, layer)[3].tolist() for one in (a, b)))


def plain_errors(comparison: Comparison, turn: EncodedTurn) -> torch.Tensor:
    return errors_oracle(comparison.loaded.model, comparison.loaded.tokenizer, turn)


def own_tokens(turn: EncodedTurn) -> list[list[int]]:
    return [[token - turn.response_start for token in own] for own in word_tokens(turn, "response")[1]]


def test_maps_and_response_words_are_those_of_full_passes() -> None:
    comparison, (query, *rows) = made()
    found = explain(comparison, query, rows, layer=2, response_method="paper")
    for row, hit in zip(rows, found.hits, strict=True):
        tokens = plain_map(comparison, query, row, 2)
        expected = word_map_oracle(tokens, own_tokens(query), own_tokens(row))
        torch.testing.assert_close(torch.tensor(hit.map), torch.tensor(expected), atol=BOUND, rtol=0)
        assert hit.response.spans == word_spans(row.response)
        assert hit.prompt.spans == word_spans(row.prompt)
        of_tokens = [sum(column) for column in zip(*tokens, strict=True)]
        expected_words = [max(of_tokens[j] for j in own) for own in own_tokens(row)]
        assert hit.response.scores == pytest.approx(expected_words, abs=BOUND)
        assert hit.response.word_method == "paper"


def test_default_words_match_what_the_hits_share() -> None:
    comparison, (query, *rows) = made()
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(32, generator=generator, dtype=torch.float64)
    for given, middle in (({(4, "m"): centre}, centre), (None, mean_state(comparison, [query, *rows]))):
        found = explain(replace(comparison, centres=given), query, rows, prompt_method_name="occlusion")
        kernels = [plain_kernel(comparison, query, row, middle) for row in rows]
        share = sum(K.amax(1) for K in kernels) / 2
        expected = [(query, found.response, share)]
        for row, hit, K in zip(rows, found.hits, kernels, strict=True):
            expected.append((row, hit.response, (share[:, None] * K).amax(0)))
        for turn, words, values in expected:
            assert words is not None
            assert words.word_method == "shared"
            of_words = [max(values[i].item() for i in own) for own in own_tokens(turn)]
            assert words.scores == pytest.approx(of_words, abs=BOUND)


def states(comparison: Comparison, turn: EncodedTurn) -> torch.Tensor:
    return signature_oracle(comparison.loaded.model, turn, 4)[2]


def mean_state(comparison: Comparison, turns: list[EncodedTurn]) -> torch.Tensor:
    return torch.cat([states(comparison, turn) for turn in turns]).mean(0)


def plain_kernel(comparison: Comparison, a: EncodedTurn, b: EncodedTurn, centre: torch.Tensor) -> torch.Tensor:
    """Cosine by cosine, negative ones as 0."""
    of_E = token_map_oracle(*(plain_errors(comparison, one).tolist() for one in (a, b)))
    of_H = token_map_oracle(*((states(comparison, one) - centre).tolist() for one in (a, b)))
    return torch.tensor(
        [[max(0.0, x) * max(0.0, y) for x, y in zip(*rows, strict=True)] for rows in zip(of_E, of_H, strict=True)]
    ).double()


def test_prompt_words_are_those_of_the_named_method_against_query_and_rows() -> None:
    comparison, (query, *rows) = made()
    found = explain(comparison, query, rows, prompt_method_name="occlusion")
    lit = [torch.ones(row.n_response) for row in rows]  # occlusion does not look at it
    score = comparison.against_query(comparison.block([query]))
    expected = prompt_words(comparison, rows, score, lit, "occlusion")
    for hit, words in zip(found.hits, expected, strict=True):
        assert hit.prompt.scores == pytest.approx(words.scores, abs=BOUND)
    score = comparison.against_rows(comparison.block(rows))
    (own,) = prompt_words(comparison, [query], score, [torch.ones(query.n_response)], "occlusion")
    assert found.prompt is not None
    assert found.prompt.scores == pytest.approx(own.scores, abs=BOUND)


def test_the_words_asked_about_decide_the_rows_words() -> None:
    comparison, (query, *rows) = made()
    whole, part = (
        explain(comparison, query, rows, positions=positions, response_method="largest", prompt_method_name="occlusion")
        for positions in (None, [1, 2])
    )
    for row, a, b in zip(rows, whole.hits, part.hits, strict=True):
        assert a.map == b.map
        tokens = plain_map(comparison, query, row)
        expected = [max(tokens[i][j] for i in (1, 2) for j in own) for own in own_tokens(row)]
        assert b.response.scores == pytest.approx(expected, abs=BOUND)
    assert whole.response == part.response


def test_the_vectors_searched_with_are_used() -> None:
    comparison, (query, *rows) = made()
    other = comparison.block([rows[0]])
    a, b = (explain(comparison, query, rows, query=block, prompt_method_name="occlusion") for block in (None, other))
    assert a.hits[0].response == b.hits[0].response
    assert a.hits[0].prompt != b.hits[0].prompt


def test_poolings() -> None:
    M, K = torch.tensor([[0.9, 0.8, 0.1], [0.9, 0.2, 0.0]]), torch.tensor([[0.9, 0.4, 0.0], [0.3, 0.2, 0.0]])
    share, maps = torch.tensor([0.5, 1.0]), Maps(M, K, M)
    torch.testing.assert_close(shared(maps, share, [0, 1]), torch.tensor([0.45, 0.2, 0.0]))
    torch.testing.assert_close(shared(maps, share, [1]), torch.tensor([0.3, 0.2, 0.0]))
    torch.testing.assert_close(shares([maps, Maps(K, M, M)]), torch.tensor([0.9, 0.6]))
    torch.testing.assert_close(subtract_column_mean(maps, share, [0, 1]), torch.tensor([0.0, 0.6, 0.1]))
    torch.testing.assert_close(subtract_column_mean(maps, share, [1]), torch.tensor([0.0, -0.6, -0.1]))
    torch.testing.assert_close(subtract_column_mean(Maps(M[:1], K, M), share, [0]), M[0])
    torch.testing.assert_close(largest(maps, share, [1]), M[1])
    torch.testing.assert_close(paper(maps, share, [0, 1]), M.sum(0))
    known = maps._replace(shift=TokenShift(torch.tensor([math.log(2), 60.0, -1.0]), torch.tensor([0.4, 0.5, 1.0])))
    torch.testing.assert_close(learned(known, share, [0, 1]), torch.tensor([0.225, 0.2, 0.0]).double())
    torch.testing.assert_close(contradicted(known, share, [0, 1]), torch.tensor([0.18, 0.2, 0.0]).double())


def test_pairs_add_up_to_what_query_and_row_share_in_the_gradient_half() -> None:
    comparison, (query, *rows) = made()
    shifts = some_shifts([query, *rows], 3, 2)
    model, layer = comparison.loaded.model, comparison.loaded.n_layers
    H_query, *H_rows = [signature_oracle(model, turn, layer)[2] for turn in (query, *rows)]
    E_query, *E_rows = [plain_errors(comparison, turn) for turn in (query, *rows)]
    for given in (None, shifts):
        weights = [torch.ones(turn.n_response) if given is None else shift.gain.clamp_min(MIN_TOKEN_GAIN)
                   for turn, shift in zip((query, *rows), shifts, strict=True)]  # fmt: skip
        found = explain(
            comparison,
            query,
            rows,
            shifts=given,
            response_method="inner-product-share",
            prompt_method_name="prefix-gradients",
        )
        for row, hit, H, E, weight in zip(rows, found.hits, H_rows, E_rows, weights[1:], strict=True):
            tokens = [
                sum(
                    (v * w * cosine(E_query[i], E[j]) * cosine(H_query[i], H[j])).item()
                    for i, v in enumerate(weights[0])
                )
                for j, w in enumerate(weight)
            ]
            expected = [max(tokens[j] for j in own) for own in own_tokens(row)]
            assert hit.response.scores == pytest.approx(expected, abs=BOUND)


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.dot(a / a.norm(), b / b.norm())


def test_words_that_fine_tuning_put_in_place_of_what_the_base_was_sure_of() -> None:
    comparison, (query, *rows) = made()
    shifts = some_shifts([query, *rows], 4, 1)
    without, found = (
        explain(comparison, query, rows, shifts=given, prompt_method_name="occlusion") for given in (None, shifts)
    )
    assert found.response is not None
    assert (found.response.word_method, found.hits[0].response.word_method) == ("contradicted", "contradicted")
    middle = mean_state(comparison, [query, *rows])
    kernels = [plain_kernel(comparison, query, row, middle) for row in rows]
    share = sum(K.amax(1) for K in kernels) / 2

    def expected(turn: EncodedTurn, shift: TokenShift, best: torch.Tensor) -> list[float]:
        values = [
            score * (1 - math.exp(-max(0.0, gain))) * other
            for score, gain, other in zip(
                *(part.tolist() for part in (best, shift.gain, shift.base_top_other_prob)), strict=True
            )
        ]
        asked = turn.prompt.lower().replace("?", " ?").split()
        return [
            max(values[j] for j in own) * (0.25 if word in asked else 1)
            for own, word in zip(own_tokens(turn), spelled(turn), strict=True)
        ]

    assert found.response.scores == pytest.approx(expected(query, shifts[0], share), abs=BOUND)
    alone = [expected(*one) for one in zip(rows, shifts[1:], [K.amax(0) for K in kernels], strict=True)]
    best = [{word: max(s for w, s in zip(spelled(row), own, strict=True) if w == word) for word in spelled(row)}
            for row, own in zip(rows, alone, strict=True)]  # fmt: skip
    for row, hit, own in zip(rows, found.hits, alone, strict=True):
        means = [sum(one.get(word, 0.0) for one in best) / 2 for word in spelled(row)]
        together = [a / 4 + 3 * b / 4 if a else 0.0 for a, b in zip(own, means, strict=True)]
        assert hit.response.scores == pytest.approx(together, abs=BOUND)
    assert [hit.map for hit in without.hits] == [hit.map for hit in found.hits]


def spelled(turn: EncodedTurn) -> list[str]:
    return [turn.response[start:stop].lower() for start, stop in word_spans(turn.response)]


def test_what_the_hits_agree_on() -> None:
    _, turns = made([("Is TORONTO far?", "Toronto, far Korea"), ("So?", "far FAR")])
    rows = [Words(word_spans(turn.response), scores, "m") for turn, scores in
            zip(turns, [(0.8, 0.4, 0.4, 1.0), (0.2, 0.6)], strict=True)]  # fmt: skip
    assert downweight_prompt_words(turns[0], rows[0]).scores == pytest.approx((0.2, 0.4, 0.1, 1.0))
    first, second = average_over_hits(turns, rows)
    # Of "far" the mean is (0.1 + 0.6) / 2.
    expected = [0.2 + 3 * 0.1, 0.4 + 3 * 0.2, 0.1 + 3 * 0.35, 1 + 3 * 0.5]
    assert first.scores == pytest.approx([score / 4 for score in expected])
    assert second.scores == pytest.approx([(0.2 + 3 * 0.35) / 4, (0.6 + 3 * 0.35) / 4])
    assert average_over_hits(turns[1:], rows[1:])[0].scores == pytest.approx((0.5, 0.6))
    cut = Words(rows[1].spans, (0.0, 0.6), "m")
    assert average_over_hits(turns[1:], [cut])[0].scores == pytest.approx((0.0, 0.6)), (
        "a word without a score of its own has none"
    )


def test_the_changes_decide_whose_loss_prompt_words_are_asked_about() -> None:
    comparison, (query, row, _) = made()
    nothing, all_of_it = torch.zeros(row.n_response), torch.full((row.n_response,), 50.0)
    only = nothing.clone()
    only[2] = 50.0
    own = TokenShift(torch.full((query.n_response,), 50.0), torch.ones(query.n_response))
    found = {
        name: explain(comparison, query, [row], shifts=[own, TokenShift(gain, torch.ones(len(gain)))]).hits[0].prompt
        for name, gain in (("one", only), ("all", all_of_it), ("none", nothing))
    }
    score = comparison.against_query(comparison.block([query]))
    (expected,) = prompt_words(comparison, [row], score, [only], DEFAULT_PROMPT_METHOD)
    assert found["one"].scores == pytest.approx(expected.scores, abs=BOUND)
    assert found["one"].scores != pytest.approx(found["all"].scores, abs=BOUND)
    plain = explain(comparison, query, [row]).hits[0].prompt
    assert found["all"].scores == pytest.approx(plain.scores, abs=BOUND)


def test_added_probability() -> None:
    p, p_base = 0.9, 0.3
    gain = torch.tensor([math.log(p / p_base), -3.0, 0.0, 60.0], dtype=torch.float64)
    assert learned_fraction(gain).tolist() == pytest.approx([(p - p_base) / p, 0.0, 0.0, 1.0])


def test_one_token_and_no_row() -> None:
    comparison, (query, row) = made([("Hi", "N"), ("Hi", "N")])
    found = explain(comparison, query, [row])
    assert found.hits[0].map[0][0] == pytest.approx(1.0)
    assert found.hits[0].response.scores[0] == pytest.approx(1.0)
    assert explain(comparison, query, []) == Explained(())


def test_bad_input() -> None:
    comparison, (query, *rows) = made()
    for positions in ([], [-1], [query.n_response]):
        with pytest.raises(InputError, match="tokens asked about"):
            explain(comparison, query, rows, positions=positions)
    with pytest.raises(InputError, match="Did you mean paper"):
        explain(comparison, query, rows, response_method="papr")
    with pytest.raises(InputError, match="Did you mean occlusion"):
        explain(comparison, query, rows, prompt_method_name="oclusion")
    with pytest.raises(InputError, match="what fine-tuning changed"):
        explain(comparison, query, rows, response_method="learned")
    for shifts in ([TokenShift(*[torch.zeros(query.n_response)] * 2)], [TokenShift(*[torch.zeros(1)] * 2)] * 3):
        with pytest.raises(InputError, match="Shifts at"):
            explain(comparison, query, rows, shifts=shifts)
