// Small parts that several views share.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import shading from "../../src/whence/report/templates/shading.js";
import { Failure, type IndexInfo, type Message, type Progress, quoted, type Span, type Words } from "./api";
import { useMarking, wordsOf } from "./mark";

const { level, safe, toUnits, number, visible, RTL } = shading;
export { shading };

export function Problem({ error, retry }: { error: unknown; retry?: () => void }) {
  const gone = error instanceof Failure && error.status === 404;
  const parts = error instanceof Failure ? [error.found, error.expected, error.fix || (gone ? "It was forgotten since, or is of another index." : "")] : [String(error)];
  return (
    <div class="problem" role="alert">
      <strong>{parts[0]}</strong>
      {parts.slice(1).map((part) => part && <p>{part}</p>)}
      {retry && !gone && <button type="button" onClick={retry}>Try again</button>}
    </div>
  );
}

export function Busy({ what, place, progress, stop }: { what: string; place?: number | null; progress?: Progress | null; stop?: () => void }) {
  const said = place ? `Waiting: place ${place} in the queue` : progress ? capital(progress.stage) : what;
  return (
    <div class="busy">
      <span role="status">{said}{progress?.total ? `, ${progress.done.toLocaleString("en")} of ${progress.total.toLocaleString("en")}` : "…"}</span>
      {progress?.total
        ? <progress max={progress.total} value={progress.done} aria-label={said} />
        : <progress aria-label={said} />}
      {stop && <button type="button" onClick={stop}>Stop</button>}
    </div>
  );
}

export const many = (n: number, what: string) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
export const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
export const when = (seconds: number) => new Date(seconds * 1000).toLocaleString();
export const placeOf = (row: { file: string; line: number }) => `${row.file.split(/[\\/]/).pop()}:${row.line}`;
/** The address of a row's place: of the same text there may be several. */
export const addressOf = (row: { id: string; file: string; line: number }) => `#/row/${row.id}/${row.line}/${encodeURIComponent(row.file)}`;

/** What the server says of the index. */
export function IndexNotes({ info, open = false }: { info: IndexInfo; open?: boolean }) {
  const notes = info.notes ?? [];
  if (!notes.length) return null;
  return (
    <details class="options" open={open}>
      <summary>{many(notes.length, "note")} on this index</summary>
      <ul class="notes">{notes.map((note) => <li key={note}>{safe(note)}</li>)}</ul>
    </details>
  );
}

/** The browser's title for what is shown: a tab, and the history, have no other. */
export const entitle = (text: string) => { document.title = `${text} · whence`; };

/** Gives the focus to the button beside one whose item goes, so that a keyboard stays where it is. */
export function leave(button: HTMLElement) {
  const item = button.closest("li"), next = item?.nextElementSibling ?? item?.previousElementSibling;
  (next?.querySelector("button") ?? document.querySelector<HTMLElement>("main h2"))?.focus();
}

/** Gives the focus to the heading where what had it is gone, or can no longer be pressed. */
export function refocus() {
  if (document.activeElement === document.body) document.querySelector<HTMLElement>("main h2")?.focus({ preventScroll: true });
}

/** A heading that takes the focus when its view opens, so that a screen reader says where one is. */
export function Title({ children }: { children: ComponentChildren }) {
  const own = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => own.current?.focus({ preventScroll: true }), []); // before anything is typed elsewhere
  useEffect(() => entitle(own.current?.textContent ?? ""));
  return <h2 class="verdict" tabIndex={-1} ref={own}>{children}</h2>;
}

interface ShadedProps {
  text: string; words?: Words | null; span?: Span | null; label: string; class?: string;
  /** Links to the word that is pointed at, by word; their scale. */
  links?: (number | undefined)[] | null; scale?: number;
  at?: number | null; onPoint?: (word: number | null) => void;
  /** What is marked of it, as a span of the API; words can be marked where there is `onMark`. */
  mark?: Span | null; onMark?: (span: Span | null) => void;
}

/** A text with its words shaded as in the report; the word pointed at, or reached by arrow keys, is told to `onPoint`. */
export function Shaded({ text, words, span, label, links, scale, at, onPoint, mark = null, onMark, class: name = "" }: ShadedProps) {
  const own = useRef<HTMLDivElement>(null);
  const out: ComponentChildren[] = [];
  const asked = span ? toUnits(text, [span])[0]! : null;
  const spans = useMemo(() => (words ? toUnits(text, words.spans) : onMark ? wordsOf(text) : []), [text, words, !onMark]);
  const { units, isOn, focus, setFocus, handlers } = useMarking(own, "word", text, spans, mark, onMark ?? null);
  const within = (range: Span | null, from: number, to: number) => range !== null && from < range[1] && to > range[0];
  const kind = (from: number, to: number) => (within(asked, from, to) ? " asked" : "") + (within(units, from, to) ? " marked" : "");
  const plainText = (from: number, to: number) => {
    if (from >= to) return;
    const cuts = [...new Set([from, ...[...(asked ?? []), ...(units ?? [])].filter((cut) => cut > from && cut < to), to])].sort((a, b) => a - b);
    cuts.slice(1).forEach((end, i) => {
      const start = cuts[i]!, piece = safe(text.slice(start, end)), own = kind(start, end);
      out.push(own ? <span class={own.trim()}>{piece}</span> : piece);
    });
  };
  let seen = 0;
  const most = words ? shading.largest(words.scores) : 0;
  const linkScale = links ? (scale ?? shading.largest(links.map((value) => value ?? 0))) : 0;
  const current = spans[at ?? focus] ? (at ?? focus) : 0;
  spans.forEach(([from, to], i) => {
    if (from < seen || to <= from) return;
    plainText(seen, from);
    const score = words?.scores[i] ?? 0, strength = level(score, most);
    const link = links?.[i] ?? 0, linked = links ? level(link, linkScale) : 0;
    const shade = (strength ? ` ${score < 0 ? "n" : "w"}${strength}` : "") + (linked ? ` ${link < 0 ? "m" : "l"}${linked}` : "");
    out.push(
      <span class={`w${shade}${at === i ? " at" : ""}${kind(from, to)}`} role="button" key={i} data-word={i} aria-pressed={onMark ? isOn([from, to]) : undefined}
        tabIndex={current === i ? 0 : -1} aria-label={visible(text.slice(from, to)) + (words ? `, ${number(score)}` : "")}
        onPointerEnter={() => onPoint?.(i)} onPointerLeave={() => onPoint?.(null)} onFocus={() => { setFocus(i); onPoint?.(i); }} onBlur={() => onPoint?.(null)}>
        {safe(text.slice(from, to))}
      </span>,
    );
    seen = to;
  });
  plainText(seen, text.length);
  const keys = onMark ? "arrow keys move, Enter marks a word, Shift and arrows mark several, Escape clears" : "arrow keys move";
  const group = spans.length ? { role: "group" as const, "aria-label": `${label}, word by word; ${keys}` } : {};
  return (
    <div class={`text ${name}${links ? " linking" : ""}${onMark ? " marking" : ""}`} dir={RTL.test(text.slice(0, 1200)) ? "rtl" : "ltr"} ref={own} {...handlers} {...group}>{out}</div>
  );
}

/** The SQL condition of rows whose prompt or response has a phrase. */
export const holding = (phrase: string) => `(contains(prompt, ${quoted(phrase)}) OR contains(response, ${quoted(phrase)}))`;
/** Characters of a phrase that a condition may have: it holds the phrase twice, and 2,000 in all. */
export const MOST_PHRASE = 400;

export const cut = (text: string, most = 40) => (text.length > most ? `${text.slice(0, most)}…` : text);

/** What a request gives, an error with another try, or neither while it is on its way. */
export function useLoaded<T>(load: () => Promise<T>, keys: unknown[]) {
  const [value, setValue] = useState<T | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [tries, setTries] = useState(0);
  useEffect(() => {
    let current = true;
    setError(null);
    load().then((found) => current && setValue(found), (failed) => current && setError(failed));
    return () => { current = false; };
  }, [...keys, tries]);
  return { value, setValue, error, retry: () => setTries((n) => n + 1) };
}

/** The question that a row's message answers: all that comes before it. Null where nothing does. */
export function questionOf(turns: Message[], at: number, span: Span): Handed | null {
  const before = turns.slice(0, at).map(({ role, content }) => ({ role, content }));
  const last = before.findLast((turn) => turn.role === "user") ?? before.at(-1);
  if (!last || !before.some((turn) => turn.content.trim())) return null;
  const alone = before.length === 1 && last.role === "user";
  return { prompt: last.content, messages: alone ? null : before, answer: turns[at]!.content, span };
}

/** A query that another view hands to the conversation: it is asked when that opens. */
export interface Handed { prompt: string; messages: Message[] | null; answer: string; span: Span | null }
let handed: Handed | null = null;
/** The conversation's own address. */
export const START = "#/";
export const handOver = (query: Handed) => {
  handed = query;
  if (location.hash === START) window.dispatchEvent(new Event("hashchange")); // of the same address a browser says nothing
  else location.hash = START;
};
export const takeHanded = () => {
  const query = handed;
  handed = null;
  return query;
};
