// A phrase that was marked in a training row, and what can be asked with it.
import { useState } from "preact/hooks";
import type { Span } from "./api";
import { cut, holding, MOST_PHRASE, shading } from "./parts";
import { partOf } from "./mark";

/** A marked part of a row. */
export interface Marked { part: number; span: Span; phrase: string }

/** Marks of the parts of one row: one at a time. */
export function useMarks(texts: string[]) {
  const [marked, setMarked] = useState<Marked | null>(null);
  const props = (part: number) => ({
    mark: marked?.part === part ? marked.span : null,
    onMark: (span: Span | null) => setMarked(span && { part, span, phrase: partOf(texts[part] ?? "", span) }),
  });
  return { marked, props, clear: () => setMarked(null) };
}

/** What can be asked with a phrase: by a button each, those that mean nothing here left out. */
export function AskAgain({ phrase, answer, among, taught, list, clear }: {
  phrase: string; clear: () => void;
  /** Which rows are behind the phrase in the answer that is traced; absent where the answer does not have it. */
  answer?: () => void;
  /** The same question over the rows that meet a condition. */
  among?: (condition: string) => void;
  /** Which rows taught the phrase, with this row as the question. */
  taught?: () => void;
  /** The rows that have it. */
  list?: (condition: string) => void;
}) {
  const short = phrase.length <= MOST_PHRASE;
  return (
    <div class="again" role="group" aria-label="Ask again with the marked phrase">
      <span class="quiet" role="status">Marked: <bdi class="phrase plain">{shading.safe(cut(phrase, 80))}</bdi></span>
      {answer && <button type="button" onClick={answer}>Find the rows behind it in the answer</button>}
      {among && short && <button type="button" onClick={() => among(holding(phrase))}>Ask again among rows with it</button>}
      {among && short && <button type="button" onClick={() => among(`NOT ${holding(phrase)}`)}>Ask again among rows without it</button>}
      {taught && <button type="button" onClick={taught}>Find the rows that taught it, as this row says it</button>}
      {list && short && <button type="button" onClick={() => list(holding(phrase))}>List the rows that have it</button>}
      <button type="button" onClick={clear} aria-label="Clear the mark">Clear</button>
    </div>
  );
}

