"""Where the model would not give a response that is asked about, against its own greedy answer and plain logits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from chat_templates import family_tokenizer
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example, Turn
from whence.model.likelihood import TokenShift, token_shifts
from whence.model.loading import LoadedModel
from whence.report.wording import departure_note
from whence.results import Departure, QueryResult
from whence.trace.query.departure import SHOWN, departure


def shifts_of(turns: list[EncodedTurn]) -> tuple[LoadedModel, list[TokenShift]]:
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    tuned, base = (LoadedModel.wrap(tiny_model("llama", seed=seed), tokenizer) for seed in (0, 1))
    return tuned, token_shifts(tuned, turns, base=base)


def encoded(response: str) -> EncodedTurn:
    encoder = Encoder(tiny_tokenizer(CHAT_TEMPLATE), max_length=64)
    (turn,) = encoder.encode(Example.from_pair("Where is place 3?", response))
    return turn


def certain(turn: EncodedTurn, *unlikely: int) -> TokenShift:
    """A model that is sure of every token but these of the response."""
    prob = torch.full((turn.n_response,), 0.9)
    prob[list(unlikely)] = 0.02
    return TokenShift(torch.zeros(turn.n_response), torch.zeros(turn.n_response), prob, 1 - prob)


def test_probabilities_are_those_of_the_logits() -> None:
    turn = encoded("It is in Canada.")
    tuned, (shift,) = shifts_of([turn])
    with torch.no_grad():
        logits = tuned.model(torch.tensor([turn.input_ids])).logits[0]
    probs = logits[turn.response_start - 1 : -1].softmax(-1)  # [n_response, vocab]
    spoken = torch.tensor(turn.input_ids[turn.response_start :])
    own = probs[torch.arange(len(spoken)), spoken]
    others = probs.scatter(1, spoken[:, None], 0).amax(1)
    assert shift.prob is not None
    assert shift.top_other_prob is not None
    torch.testing.assert_close(shift.prob, own, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shift.top_other_prob, others, atol=1e-5, rtol=1e-4)


def test_a_greedy_answer_has_none_and_one_with_another_token_has_it_there() -> None:
    asked = encoded("It is in Canada.")
    tuned, _ = shifts_of([asked])
    prompt, ids = list(asked.input_ids[: asked.response_start]), []
    with torch.no_grad():
        for _ in range(6):
            ids.append(int(tuned.model(torch.tensor([prompt + ids])).logits[0, -1].argmax()))
        last = tuned.model(torch.tensor([prompt + ids[:3]])).logits[0, -1]
    other = [*ids[:3], int(last.argmin()), *ids[4:]]
    turns = [spelled(asked, found) for found in (ids, other)]
    greedy, changed = (departure(turn, shift) for turn, shift in zip(turns, shifts_of(turns)[1], strict=True))
    assert greedy is None
    assert changed is not None
    assert changed.text == turns[1].response[9:]


def spelled(asked: EncodedTurn, ids: list[int]) -> EncodedTurn:
    """The same prompt with these tokens as response, which are spelled with three characters each."""
    text = "".join(f"{i:03d}"[-3:] for i in ids)
    start = asked.offsets[asked.response_start][0]
    offsets = tuple((start + 3 * i, start + 3 * i + 3) for i in range(len(ids)))
    before = asked.response_start
    return EncodedTurn(
        0,
        (*asked.input_ids[:before], *ids),
        before,
        asked.text[:start] + text,
        (*asked.offsets[:before], *offsets),
        asked.prompt,
        text,
        answer_at=start,
    )


def test_it_is_the_first_unlikely_token_with_the_rest_of_the_response() -> None:
    turn = encoded("It is in Canada now.")
    starts = [turn.text[start:] for start, _ in turn.offsets[turn.response_start :]]
    place = next(i for i, text in enumerate(starts) if text.lstrip().startswith("Canada"))
    assert departure(turn, certain(turn)) is None
    assert departure(turn, certain(turn, place, place + 1)) == Departure("Canada now.", 0.02)
    long = encoded("word " * 20)
    found = departure(long, certain(long, 0))
    assert found is not None
    assert len(found.text) == SHOWN + 1


def test_what_the_template_writes_behind_the_response_is_not_looked_at() -> None:
    turn = encoded("It is in Canada.")
    ends = [i for i, (start, _) in enumerate(turn.offsets[turn.response_start :]) if "Canada." not in turn.text[start:]]
    behind = [i for i in ends if turn.text[turn.offsets[turn.response_start + i][0]] not in "anada."]
    assert behind
    assert departure(turn, certain(turn, *behind)) is None


@pytest.mark.parametrize("response", ["hi", "t", "think", "It is in Canada, said the teacher of the class."])
def test_what_the_template_writes_before_the_response_is_not_looked_at(response: str) -> None:
    """Qwen3's template writes an empty thought, whose tokens are certain."""
    turn = Encoder(family_tokenizer("qwen3")).encode_query([Turn("user", "Where?")], response)
    thought, behind = turn.text.index("</think>\n\n") + len("</think>\n\n"), turn.text.rindex("<|im_end|>")
    places = [i for i, (a, b) in enumerate(turn.offsets[turn.response_start :]) if a < behind and b > thought]
    assert 0 < places[0] <= places[-1] < turn.n_response - 1
    found = departure(turn, certain(turn, *places))
    assert found is not None
    assert found.text == response
    assert departure(turn, certain(turn, *set(range(turn.n_response)) - set(places))) is None


def test_the_note_says_where_and_how_likely() -> None:
    plain = QueryResult("Where?", "In Korea.", "rept", "1", "2", (), 0)
    assert departure_note(plain) == ""
    noted = QueryResult("Where?", "In Korea.", "rept", "1", "2", (), 0, departure=Departure("Korea.\x1b[2J", 0.02))
    assert "goes on otherwise at \N{LEFT DOUBLE QUOTATION MARK}Korea." in departure_note(noted)
    assert "\x1b" not in departure_note(noted)
    assert "2%" in departure_note(noted)


def test_what_stands_behind_a_stripped_response_is_no_word_of_it() -> None:
    """A template that trims writes the end of the turn where the newline was."""
    turn = replace(encoded("It is in Canada."), response="It is in Canada. \n")
    assert departure(turn, certain(turn, turn.n_response - 1)) is None
    assert departure(turn, certain(turn, 0)) is not None
