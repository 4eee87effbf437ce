// Words of a text that can be marked: by dragging, by tapping the first and the last, or with the keyboard.
import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import shading from "../../src/whence/report/templates/shading.js";
import type { Span } from "./api";

/** Words of a text, [start, end) in UTF-16 units. */
export const wordsOf = (text: string): Span[] => [...text.matchAll(/[\p{L}\p{M}\p{N}_]+(?:['’.,-][\p{L}\p{M}\p{N}_]+)*|[^\s\p{L}\p{M}\p{N}_]+/gu)].map((m) => [m.index, m.index + m[0].length]);

/** Spans of the API count characters (code points). */
const points = (text: string, unit: number) => [...text.slice(0, unit)].length;

/** The part of a text that a span of the API covers. */
export const partOf = (text: string, span: Span) => [...text].slice(...span).join("");

/** The first place of a phrase in a text, as a span of the API. */
export const placeIn = (text: string, phrase: string): Span | null => {
  const at = text.indexOf(phrase);
  return at < 0 ? null : [points(text, at), points(text, at + phrase.length)];
};

type OnMark = (span: Span | null) => void;

/** Marking among the elements `[data-NAME=number]` of `own`, one for each of `words`. */
export function useMarking(own: RefObject<HTMLElement>, name: string, text: string, words: Span[], span: Span | null, onMark: OnMark | null) {
  const [focus, setFocus] = useState(0);
  const anchor = useRef<number | null>(null);
  const dragging = useRef(false);
  const units = span ? shading.toUnits(text, [span])[0]! : null;
  const isOn = (word: Span | undefined) => units !== null && word !== undefined && word[0] < units[1] && word[1] > units[0];
  const element = (word: number) => own.current?.querySelector<HTMLElement>(`[data-${name}="${word}"]`);

  const choose = (from: number, to: number) => {
    const [a, b] = from < to ? [from, to] : [to, from];
    const first = words[a], last = words[b];
    if (first && last) onMark?.([points(text, first[0]), points(text, last[1])]);
  };
  const clear = () => { anchor.current = null; onMark?.(null); };
  const wordAt = (event: PointerEvent) => {
    const at = document.elementFromPoint(event.clientX, event.clientY)?.closest<HTMLElement>(`[data-${name}]`);
    return at && own.current?.contains(at) ? Number(at.dataset[name]) : null;
  };
  useEffect(() => {
    const up = () => { dragging.current = false; };
    window.addEventListener("pointerup", up);
    window.addEventListener("pointercancel", up);
    return () => { window.removeEventListener("pointerup", up); window.removeEventListener("pointercancel", up); };
  }, []);

  const onPointerDown = (event: PointerEvent) => {
    const word = wordAt(event);
    if (!onMark || word === null || event.button) return;
    event.preventDefault(); // no selection of the browser's own beside ours
    (event.target as HTMLElement).releasePointerCapture?.(event.pointerId);
    dragging.current = true;
    setFocus(word);
    element(word)?.focus({ preventScroll: true });
    if (units && anchor.current === word && isOn(words[word])) clear();
    else if (units && anchor.current !== null && event.pointerType !== "mouse") choose(anchor.current, word);
    else { anchor.current = word; choose(word, word); }
  };
  const onPointerMove = (event: PointerEvent) => {
    if (!dragging.current || anchor.current === null) return;
    const word = wordAt(event);
    if (word !== null) choose(anchor.current, word);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape" && onMark) { clear(); return; }
    if ((event.key === "Enter" || event.key === " ") && onMark) {
      event.preventDefault();
      if (isOn(words[focus]) && anchor.current === focus) clear(); else { anchor.current = focus; choose(focus, focus); }
      return;
    }
    const to = { ArrowRight: focus + 1, ArrowLeft: focus - 1, Home: 0, End: words.length - 1 }[event.key];
    if (to === undefined || !words[to]) return;
    event.preventDefault();
    if (event.shiftKey && onMark) { anchor.current ??= focus; choose(anchor.current, to); }
    setFocus(to);
    element(to)?.focus();
  };
  return { units, isOn, focus, setFocus, handlers: { onPointerDown, onPointerMove, onKeyDown } };
}

/** The answer, in which words can be marked as wrong. */
export function Mark({ text, span, onMark }: { text: string; span: Span | null; onMark: OnMark }) {
  const own = useRef<HTMLDivElement>(null);
  const words = wordsOf(text);
  const { units, isOn, focus, setFocus, handlers } = useMarking(own, "mark", text, words, span, onMark);
  let seen = 0;
  const out = words.flatMap((word, i) => {
    const between = text.slice(seen, word[0]), on = isOn(word);
    const inside = units !== null && seen >= units[0] && word[0] < units[1] && seen > 0 && word[0] > units[0];
    seen = word[1];
    return [
      between && <span class={inside ? "marked" : ""}>{shading.safe(between)}</span>,
      <span class={`markable${on ? " marked" : ""}`} data-mark={i} key={i} role="option" aria-selected={on} tabIndex={i === focus ? 0 : -1}
        onFocus={() => setFocus(i)}>{shading.safe(text.slice(...word))}</span>,
    ];
  });
  return (
    <div class="text answer mark" ref={own} role="listbox" aria-multiselectable="true" dir={shading.RTL.test(text) ? "rtl" : "ltr"}
      aria-label="Answer. Arrow keys move, Enter marks a word as wrong, Shift and arrows mark several, Escape clears"
      {...handlers}>
      {out}{text.slice(seen)}
    </div>
  );
}
