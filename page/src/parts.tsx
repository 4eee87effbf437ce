// Small parts that several views share.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import shading from "../../src/whence/report/templates/shading.js";
import { Failure, type Progress, type Span, type Words } from "./api";

const { level, safe, toUnits, number, visible, RTL } = shading;
export { shading };

export function Problem({ error, retry }: { error: unknown; retry?: () => void }) {
  const parts = error instanceof Failure ? [error.found, error.expected, error.fix] : [String(error)];
  return (
    <div class="problem" role="alert">
      <strong>{parts[0]}</strong>
      {parts.slice(1).map((part) => part && <p>{part}</p>)}
      {retry && <button type="button" onClick={retry}>Try again</button>}
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

export const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
export const when = (seconds: number) => new Date(seconds * 1000).toLocaleString();
export const placeOf = (row: { file: string; line: number }) => `${row.file.split(/[\\/]/).pop()}:${row.line}`;

/** A heading that takes the focus when its view opens, so that a screen reader says where one is. */
export function Title({ children }: { children: ComponentChildren }) {
  const own = useRef<HTMLHeadingElement>(null);
  useEffect(() => own.current?.focus({ preventScroll: true }), []);
  return <h2 class="verdict" tabIndex={-1} ref={own}>{children}</h2>;
}

interface ShadedProps {
  text: string; words?: Words | null; span?: Span | null; label: string; class?: string;
  /** Links to the word that is pointed at, by word; their scale. */
  links?: (number | undefined)[] | null; scale?: number;
  at?: number | null; onPoint?: (word: number | null) => void;
}

/** A text with its words shaded as in the report; the word pointed at, or reached by arrow keys, is told to `onPoint`. */
export function Shaded({ text, words, span, label, links, scale, at, onPoint, class: name = "" }: ShadedProps) {
  const own = useRef<HTMLDivElement>(null);
  const out: ComponentChildren[] = [];
  const marked = span ? toUnits(text, [span])[0]! : null;
  const asked = (from: number, to: number) => (marked && from < marked[1] && to > marked[0] ? " asked" : "");
  const plainText = (from: number, to: number) => {
    if (from >= to) return;
    const cuts = [from, ...(marked ?? []).filter((cut) => cut > from && cut < to), to];
    cuts.slice(1).forEach((end, i) => {
      const start = cuts[i]!, piece = safe(text.slice(start, end));
      out.push(asked(start, end) ? <span class="asked">{piece}</span> : piece);
    });
  };
  let seen = 0;
  const spans = words ? toUnits(text, words.spans) : [];
  const most = words ? shading.largest(words.scores) : 0;
  const linkScale = links ? (scale ?? shading.largest(links.map((value) => value ?? 0))) : 0;
  spans.forEach(([from, to], i) => {
    if (from < seen || to <= from) return;
    plainText(seen, from);
    const score = words!.scores[i]!, strength = level(score, most);
    const link = links?.[i] ?? 0, linked = links ? level(link, linkScale) : 0;
    const shade = (strength ? ` ${score < 0 ? "n" : "w"}${strength}` : "") + (linked ? ` ${link < 0 ? "m" : "l"}${linked}` : "");
    out.push(
      <span class={`w${shade}${at === i ? " at" : ""}${asked(from, to)}`} role="button" key={i} data-word={i}
        tabIndex={(at ?? 0) === i ? 0 : -1} aria-label={`${visible(text.slice(from, to))}, ${number(score)}`}
        onPointerEnter={() => onPoint?.(i)} onPointerLeave={() => onPoint?.(null)} onFocus={() => onPoint?.(i)} onBlur={() => onPoint?.(null)}>
        {safe(text.slice(from, to))}
      </span>,
    );
    seen = to;
  });
  plainText(seen, text.length);
  const move = (event: KeyboardEvent) => {
    const word = (event.target as HTMLElement).closest<HTMLElement>(".w");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!word || !step) return;
    const all = [...own.current!.querySelectorAll<HTMLElement>(".w")];
    const next = all[all.indexOf(word) + step];
    if (next) { event.preventDefault(); next.focus(); }
  };
  const group = words ? { role: "group" as const, "aria-label": `${label}, word by word; arrow keys move` } : {};
  return (
    <div class={`text ${name}${links ? " linking" : ""}`} dir={RTL.test(text.slice(0, 1200)) ? "rtl" : "ltr"} ref={own} onKeyDown={move} {...group}>{out}</div>
  );
}

/** The SQL condition of a value of a column. */
export const condition = (column: string, value: unknown) => {
  const name = `\`${column}\``;
  if (value === null) return `${name} IS NULL`;
  return `${name} = ${typeof value === "string" ? `'${value.replaceAll("'", "''")}'` : String(value)}`;
};
