"""Where in a rendered conversation the assistant's answers begin and end, in characters.

A template with `{% generation %}` blocks says so itself. Of any other, an answer begins where the rendered prompt ends
and goes up to its end-of-turn marker. Either way the text is that of the whole conversation, as it was trained on.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from whence.data.examples import ASSISTANT, PAYLOAD_KEYS, Turn
from whence.data.templates import FIX, Inputs, Renderer, is_plain
from whence.errors import EncodingError

_PROBE = "whence"
"""A response of which every template keeps each letter: what follows it is the end-of-turn marker."""
_OPEN_MARKER = re.compile(r"(<[^<>\s]*|\[[A-Z_/]*)\Z")
"""The beginning of a marker such as <|end|> or [INST]."""
_CONTEXT = 20
_CALL_KEYS = ("tool_calls", "function_call")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text; the answer is the characters `text[prompt_end:response_end]`.

    The end-of-turn marker is part of it (where generation blocks do not say otherwise), whitespace after it is not.
    `marker` is that of an answer which ends in another way than as the last turn; None is the last turn's.
    """

    text: str
    prompt_end: int
    response_end: int
    marker: str | None = None


def render_prompt(renderer: Renderer, turns: Sequence[Turn], inputs: Inputs) -> str:
    """The prompt as the model sees it when it is about to answer: every turn, and the answer's header.

    A single turn of role "text" is a prompt without template, for a model trained on plain documents.

    Raises:
        EncodingError: no turns, or the template refuses them.
    """
    return turns[0].content if is_plain(turns) else renderer.text(turns, inputs, add_generation_prompt=True)


def render_answers(
    renderer: Renderer, turns: Sequence[Turn], places: Sequence[int], inputs: Inputs, *, complete: bool = True
) -> list[Rendered]:
    """The conversation with each of the assistant's turns at `places` found in it.

    Args:
        complete: False leaves out what follows the last turn's text: its end-of-turn marker and more (a length limit
            cut the answer).

    Raises:
        EncodingError: the template refuses the turns or leaves out what they hold, or nothing says where an answer
            begins or ends.
    """
    if is_plain(turns[:-1]):
        text = turns[0].content + turns[1].content
        return [Rendered(text, len(turns[0].content), len(text))]
    _check_turn_before(turns, places)
    for place in places:
        _check_payload(renderer, turns[: place + 1], inputs)
    if renderer.is_marked(inputs):
        found = _marked(renderer, turns, places, inputs)
    else:
        whole = renderer.text(turns, inputs)
        found = [_unmarked(renderer, turns, place, inputs, whole) for place in places]
    for place, one in zip(places, found, strict=True):
        _check_text(renderer, turns[: place + 1], inputs, one)
    return found if complete else [*found[:-1], _cut(renderer, turns, inputs, found[-1])]


def answer_text(renderer: Renderer, turns: Sequence[Turn], inputs: Inputs, found: Rendered) -> str:
    """The last turn's answer as a person reads it: its content, or what was rendered where that holds more or less."""
    turn = turns[-1]
    shown = found.text[found.prompt_end : found.response_end]
    if not turn.extra.keys() & {"content", *PAYLOAD_KEYS} and turn.content.strip() in shown:
        return turn.content
    return shown.removesuffix(_marker(renderer, turns, inputs, found))


def answer_start(
    renderer: Renderer, turns: Sequence[Turn], inputs: Inputs, found: Rendered, response: str
) -> int | None:
    """Where in the rendered text the last turn's response stands, without the spaces at its ends; None for nowhere.

    Its letters may also stand in what the template writes before it (Qwen3's empty thought) and behind it (the
    end-of-turn marker): it is the last place before the marker.
    """
    core = response.strip()
    place = found.text.find(core, found.prompt_end, found.response_end) if core else -1
    end = found.response_end
    if 0 <= place < found.text.rfind(core, found.prompt_end, end):
        marker = _marker(renderer, turns, inputs, found)
        end -= len(marker) if found.text.endswith(marker, found.prompt_end, end) else 0
        place = found.text.rfind(core, found.prompt_end, end)
    return place if place >= 0 else None


def _marker(renderer: Renderer, turns: Sequence[Turn], inputs: Inputs, found: Rendered) -> str:
    """The end-of-turn marker behind the last turn's answer, without whitespace after it."""
    return (_end_of_turn(renderer, turns, inputs) or "").rstrip() if found.marker is None else found.marker


def _marked(renderer: Renderer, turns: Sequence[Turn], places: Sequence[int], inputs: Inputs) -> list[Rendered]:
    text, blocks = renderer.blocks(turns, inputs)
    assistants = [place for place, turn in enumerate(turns) if turn.role == ASSISTANT]
    if len(blocks) != len(assistants):
        raise EncodingError(
            f"{renderer.template} has {len(blocks)} generation blocks for {len(assistants)} assistant turns",
            "expected one for each",
            FIX,
        )
    return [Rendered(text, *block) for place, block in zip(assistants, blocks, strict=True) if place in places]


def _unmarked(renderer: Renderer, turns: Sequence[Turn], place: int, inputs: Inputs, whole: str) -> Rendered:
    prompt = render_prompt(renderer, turns[:place], inputs)
    if not whole.startswith(prompt):
        raise _unstable(renderer, prompt, whole)
    if place == len(turns) - 1:
        return Rendered(whole, len(prompt), len(whole.rstrip()))
    part = renderer.text(turns[: place + 1], inputs).rstrip()
    if whole.startswith(part):
        return Rendered(whole, len(prompt), len(part))
    found = _finished(renderer, turns, place, inputs, whole, len(prompt))
    if found is None:
        raise _unstable(renderer, part, whole)
    return found


def _finished(
    renderer: Renderer, turns: Sequence[Turn], place: int, inputs: Inputs, whole: str, start: int
) -> Rendered | None:
    """The answer at `place`, rendered in another way than as the last turn; None where nothing says where it ends.

    Either with the marker of a last turn (Qwen3, which leaves out an earlier thought), or with what the template writes
    between an answer and the next prompt (Phi-3 and gpt-oss end the last turn in a way of its own).
    """
    marker = (_end_of_turn(renderer, turns[: place + 1], inputs) or "").rstrip()
    spoken = turns[place].content + "".join(str(turns[place].extra.get(key, "")) for key in PAYLOAD_KEYS)
    at = whole.find(marker, start)
    if marker and at >= 0 and marker not in spoken:
        end = at + len(marker)
        following = turns[place + 1].content.strip()
        if following and whole.find(following, start) >= end:
            return Rendered(whole, start, end, marker)
        if end <= _next_text(renderer, turns, place, inputs, whole):
            return Rendered(whole, start, end, marker)
    probed = [*turns[:place], Turn(ASSISTANT, _PROBE)]
    try:
        asked, bare = render_prompt(renderer, turns[:place], inputs), renderer.text(turns[:place], inputs)
        finished = render_prompt(renderer, probed, inputs)
        text = renderer.text([*probed, *turns[place + 1 :]], inputs)
    except EncodingError:
        return None
    header = asked[_common(asked, bare) :]
    marker = finished.rpartition(_PROBE)[2].removesuffix(header).rstrip()
    behind = text[start:].partition(_PROBE)[2]
    if not (finished.endswith(header) and behind.startswith(marker) and behind and whole.endswith(behind)):
        return None
    end = start + len(whole[start : len(whole) - len(behind) + len(marker)].rstrip())
    return Rendered(whole, start, end, marker)


def _next_text(renderer: Renderer, turns: Sequence[Turn], place: int, inputs: Inputs, whole: str) -> int:
    """A character of the whole conversation from which on it is no longer the turn at `place`: where another text of
    the next turn makes a difference. 0 where a template refuses that text."""
    after = turns[place + 1]
    other = _with_text(after, _PROBE + after.content)
    try:
        return _common(whole, renderer.text([*turns[: place + 1], other, *turns[place + 2 :]], inputs))
    except EncodingError:
        return 0


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning, without a marker cut in its middle."""
    shorter = min(len(one), len(other))
    same = bisect_left(range(shorter), True, key=lambda i: not other.startswith(one[: i + 1]))
    opened = _OPEN_MARKER.search(one[:same])
    return opened.start() if opened else same


def _cut(renderer: Renderer, turns: Sequence[Turn], inputs: Inputs, found: Rendered) -> Rendered:
    marker = _end_of_turn(renderer, turns, inputs)
    if marker is None or not found.text.endswith(marker):
        raise EncodingError(
            f"{renderer.template} ends a turn in a way that depends on the response",
            f"expected every response to be followed by {marker!r}",
            FIX,
        )
    end = len(found.text) - len(marker)
    return Rendered(found.text[:end], found.prompt_end, min(end, found.response_end))


def _end_of_turn(renderer: Renderer, turns: Sequence[Turn], inputs: Inputs) -> str | None:
    """What the template writes after the last turn's last letter; None where a probe does not show it."""
    probe = renderer.text([*turns[:-1], Turn(ASSISTANT, _PROBE)], inputs)
    return probe.rpartition(_PROBE)[2] if _PROBE in probe else None


def _check_turn_before(turns: Sequence[Turn], places: Sequence[int]) -> None:
    if 0 in places:
        raise EncodingError(
            "a conversation that begins with the assistant's turn has no prompt",
            "expected at least one turn before the first response",
            "Add the user's turn to the row, or leave the row out.",
        )


def _check_payload(renderer: Renderer, turns: Sequence[Turn], inputs: Inputs) -> None:
    """Raises EncodingError where the template silently leaves out what was to be learnt from the last turn."""
    *before, turn = turns
    text = None
    for place, one in enumerate(turns):
        parts = one.extra.get("content")
        if isinstance(parts, list):
            text = text or renderer.text(turns, inputs)
            if any(str(part["text"]).strip() not in text for part in parts if isinstance(part, dict)):
                raise _left_out(renderer, place, "the text of its parts")
    calls = [key for key in _CALL_KEYS if turn.extra.get(key)]
    thoughts = [key for key in PAYLOAD_KEYS if key not in _CALL_KEYS and turn.extra.get(key)]
    for keys, what in ((calls, "its tool call"), ([] if turn.content.strip() else thoughts, "its thought")):
        if not keys:
            continue
        bare = replace(turn, extra={key: value for key, value in turn.extra.items() if key not in keys})
        try:
            without = renderer.text([*before, bare], inputs)
        except EncodingError:
            continue  # the template does read them
        if without == renderer.text(turns, inputs):
            raise _left_out(renderer, len(before), what)


def _check_text(renderer: Renderer, turns: Sequence[Turn], inputs: Inputs, found: Rendered) -> None:
    """Raises EncodingError where the last turn is a text and the template writes the same of any other."""
    *before, turn = turns
    spoken = turn.content.strip()
    if not spoken or any(turn.extra.get(key) for key in PAYLOAD_KEYS):
        return  # a template may leave out what is said beside a call (Llama 3.1)
    if spoken in found.text[found.prompt_end : found.response_end]:
        return
    if renderer.text([*before, _with_text(turn, _PROBE)], inputs) == renderer.text(turns, inputs):
        raise _left_out(renderer, len(before), "its text")


def _with_text(turn: Turn, text: str) -> Turn:
    return replace(turn, content=text, extra={key: value for key, value in turn.extra.items() if key != "content"})


def _left_out(renderer: Renderer, place: int, what: str) -> EncodingError:
    return EncodingError(
        f"{renderer.template} leaves out of message {place + 1} {what}", "expected a template that renders it", FIX
    )


def _unstable(renderer: Renderer, prompt: str, text: str) -> EncodingError:
    place = next((i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), len(text))
    around = slice(max(0, place - _CONTEXT), place + _CONTEXT)
    return EncodingError(
        f"{renderer.template} renders the prompt in another way once the response follows: at character {place} "
        f"the prompt has {prompt[around]!r}, the conversation {text[around]!r}",
        "expected the rendered prompt to be the beginning of the rendered conversation, "
        "or `{% generation %}` markers around the response",
        FIX,
    )
