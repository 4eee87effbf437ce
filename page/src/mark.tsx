// The answer, in which words can be marked as wrong: by dragging, by tapping first and last word, or with the arrow keys.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Span } from "./api";
import { shading } from "./parts";

/** Words of a text, [start, end) in UTF-16 units. */
const wordsOf = (text: string): Span[] => [...text.matchAll(/[\p{L}\p{M}\p{N}_]+(?:['’.,-][\p{L}\p{M}\p{N}_]+)*|[^\s\p{L}\p{M}\p{N}_]+/gu)].map((m) => [m.index, m.index + m[0].length]);

/** Spans of the API count characters (code points). */
const points = (text: string, unit: number) => [...text.slice(0, unit)].length;

export function Mark({ text, span, onMark }: { text: string; span: Span | null; onMark: (span: Span | null) => void }) {
  const words = wordsOf(text);
  const [focus, setFocus] = useState(0);
  const anchor = useRef<number | null>(null);
  const dragging = useRef(false);
  const own = useRef<HTMLDivElement>(null);
  const units = span ? shading.toUnits(text, [span])[0]! : null;
  const isOn = ([from, to]: Span) => units !== null && from < units[1] && to > units[0];

  const choose = (from: number, to: number) => {
    const [a, b] = from < to ? [from, to] : [to, from];
    const first = words[a], last = words[b];
    if (first && last) onMark([points(text, first[0]), points(text, last[1])]);
  };
  const wordAt = (event: PointerEvent) => {
    const at = document.elementFromPoint(event.clientX, event.clientY)?.closest<HTMLElement>("[data-mark]");
    return at && own.current?.contains(at) ? Number(at.dataset.mark) : null;
  };
  useEffect(() => {
    const up = () => { dragging.current = false; };
    window.addEventListener("pointerup", up);
    window.addEventListener("pointercancel", up);
    return () => { window.removeEventListener("pointerup", up); window.removeEventListener("pointercancel", up); };
  }, []);

  const down = (event: PointerEvent) => {
    const word = wordAt(event);
    if (word === null || event.button) return;
    event.preventDefault(); // no selection of the browser's own beside ours
    (event.target as HTMLElement).releasePointerCapture?.(event.pointerId);
    dragging.current = true;
    setFocus(word);
    own.current?.querySelector<HTMLElement>(`[data-mark="${word}"]`)?.focus({ preventScroll: true });
    const single = anchor.current !== null && units !== null && anchor.current === word && isOn(words[word]!);
    if (single) { anchor.current = null; onMark(null); return; }
    if (event.pointerType !== "mouse" && anchor.current !== null && units) choose(anchor.current, word);
    else { anchor.current = word; choose(word, word); }
  };
  const move = (event: PointerEvent) => {
    if (!dragging.current || anchor.current === null) return;
    const word = wordAt(event);
    if (word !== null) choose(anchor.current, word);
  };
  const key = (event: KeyboardEvent) => {
    if (event.key === "Escape") { anchor.current = null; onMark(null); return; }
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (isOn(words[focus]!) && anchor.current === focus) { anchor.current = null; onMark(null); } else { anchor.current = focus; choose(focus, focus); }
      return;
    }
    const to = { ArrowRight: focus + 1, ArrowLeft: focus - 1, Home: 0, End: words.length - 1 }[event.key];
    if (to === undefined || !words[to]) return;
    event.preventDefault();
    if (event.shiftKey) { anchor.current ??= focus; choose(anchor.current, to); }
    setFocus(to);
    own.current?.querySelector<HTMLElement>(`[data-mark="${to}"]`)?.focus();
  };

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
      onPointerDown={down} onPointerMove={move} onKeyDown={key}>
      {out}{text.slice(seen)}
    </div>
  );
}
