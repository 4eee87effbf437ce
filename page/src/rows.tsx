// The ranked rows of a query.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { AskAgain, useMarks } from "./again";
import { api, Failure, type Hit, type IndexInfo, type Result, type Span } from "./api";
import { placeIn } from "./mark";
import { plain } from "./json";
import { metadataOf } from "./labels";
import { cutNote, departureNote, figure, phraseCells, phrasesNote } from "./notes";
import { addressOf, handOver, many, placeOf, Problem, questionOf, Shaded, shading } from "./parts";

const { safe, largest } = shading;
const FIRST_WORDS = 5;

interface Lit { kind: "answer" | "row"; word: number; rank: number }

interface Props {
  id: string | null; result: Result; info: IndexInfo; showText: boolean; basket: Set<string>; toggle: (rows: string[], on: boolean) => void;
  /** The answer that was traced, and the same question with other marked words or another filter. */
  answer: string; again: (change: { span?: Span | null; wanted?: string; where?: string }) => void;
}

/** Words that have been explained, by rank, and those of the query against them. Asked for one request at a time. */
function useWords(id: string | null, start: Result, showText: boolean) {
  const [result, setResult] = useState(start);
  const [failed, setFailed] = useState<unknown>(null);
  const waiting = useRef<number[]>([]), asked = useRef(new Set<number>()), busy = useRef(false), alive = useRef(true);
  useEffect(() => () => { alive.current = false; }, []);
  useEffect(() => { setResult((old) => merge(start, old)); }, [start]);
  const next = async () => {
    if (busy.current || !id || !waiting.current.length || !alive.current) return;
    busy.current = true;
    const ranks = waiting.current.splice(0, FIRST_WORDS);
    try {
      const { result: found } = await api.words(id, ranks);
      if (alive.current) setResult((old) => added(old, found, ranks));
    } catch (error) {
      if (alive.current) setFailed(error);
    }
    busy.current = false;
    void next();
  };
  const want = (ranks: number[]) => {
    if (!showText) return;
    const fresh = ranks.filter((rank) => !asked.current.has(rank) && !result.hits[rank - 1]?.words);
    fresh.forEach((rank) => asked.current.add(rank));
    waiting.current.push(...fresh);
    void next();
  };
  return { result, failed, want };
}

const merge = (fresh: Result, old: Result): Result => ({
  ...fresh,
  prompt_words: fresh.prompt_words ?? old.prompt_words,
  response_words: fresh.response_words ?? old.response_words,
  hits: fresh.hits.map((hit, i) => (hit.words || old.hits[i]?.id !== hit.id ? hit : { ...hit, words: old.hits[i]?.words })),
});
const added = (old: Result, found: Result, ranks: number[]): Result => {
  const words = new Map([...ranks].sort((a, b) => a - b).map((rank, i) => [rank, found.hits[i]?.words]));
  // The query's own words are those against its first rows; what is found of others shows those alone.
  const first = old.hits.findIndex((hit) => !hit.words), explained = first < 0 ? old.hits.length : first;
  const own = old.response_words === null || (Math.max(...ranks) === ranks.length && ranks.length >= explained);
  return {
    ...old,
    ...(own ? { prompt_words: found.prompt_words, response_words: found.response_words, phrases: found.phrases?.length ? found.phrases : old.phrases } : {}),
    hits: old.hits.map((hit) => (words.get(hit.rank) ? { ...hit, words: words.get(hit.rank) } : hit)),
  };
};

export function Ranking({ id, result: start, info, showText, basket, toggle, answer, again }: Props) {
  const { result, failed, want } = useWords(id, start, showText);
  const [lit, setLit] = useState<Lit | null>(null);
  const [search, setSearch] = useState("");
  const [only, setOnly] = useState(false);
  const [facets, setFacets] = useState<Record<string, string>>({});
  const flagged = useMemo(() => new Set(result.verdict?.flagged ?? []), [result.verdict]);
  const top = result.hits[0]?.score ?? 0;
  useEffect(() => { if (id) want(result.hits.slice(0, FIRST_WORDS).map((hit) => hit.rank)); }, [id, showText]);

  const columns = info.facets.filter((facet) => facet.values && facet.values.length > 1 && facet.column !== "file" && result.hits.some((hit) => facet.name in metadataOf(hit.metadata, showText)));
  const shown = result.hits.filter((hit) =>
    (!only || flagged.has(hit.id))
    && Object.entries(facets).every(([name, value]) => !value || plain(hit.metadata[name]) === value)
    && (!search || [hit.prompt, hit.response, hit.file, hit.id, ...Object.values(hit.metadata).map(plain)].join("\n").toLowerCase().includes(search.toLowerCase())));
  const linkRow = lit?.kind === "row" ? result.hits[lit.rank - 1] : null;
  const answerLinks = linkRow?.words && result.response_words ? linkRow.words.map.map((values) => values[lit!.word]) : null;
  const scale = lit?.kind === "answer" ? Math.max(0, ...result.hits.map((hit) => largest(hit.words?.map[lit.word] ?? []))) : 0;
  const cut = cutNote(result), departs = departureNote(result);
  const outside = [...flagged].filter((row) => !basket.has(row));
  const nFlagged = result.verdict?.n_rows ?? flagged.size, nShown = result.hits.filter((hit) => flagged.has(hit.id)).length;

  return (
    <section aria-label="Result">
      <Query result={result} lit={lit} setLit={setLit} links={answerLinks} />
      {cut && <p class="confound"><strong>Cut</strong> {cut}</p>}
      {departs && <p class="confound"><strong>Note</strong> {departs}</p>}
      {showText && result.hits.length > 0 && <Phrases result={result} search={setSearch} />}
      <h3>Rows</h3>
      <p class="quiet">
        {result.verdict?.null_model && !flagged.size
          ? "No row is flagged: the rows are in order, and it is not known whether any is a cause. This does not show that the data are clean."
          : result.confirmation ? "Rows that were removed for the retraining share its outcome, as a group: one among them may have done nothing. Every other row is a candidate."
            : "Each row is a candidate: it ranks high. Only a retraining without it shows whether it is a cause."}
        {showText ? " Drag over a phrase in a row to ask again with it." : " The texts of the rows are left out."}
      </p>
      {failed !== null && <Problem error={failed} />}
      <div class="tools">
        <input class="filter" type="search" placeholder="Filter the rows" aria-label="Filter the rows" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
        {columns.map((facet) => (
          <select aria-label={facet.name} key={facet.column} value={facets[facet.name] ?? ""} onChange={(event) => setFacets({ ...facets, [facet.name]: event.currentTarget.value })}>
            <option value="">{facet.name}: all</option>
            {facet.values!.map(({ value }) => <option key={plain(value)} value={plain(value)}>{safe(plain(value))}</option>)}
          </select>
        ))}
        {flagged.size > 0 && <label class="only"><input type="checkbox" checked={only} onChange={(event) => setOnly(event.currentTarget.checked)} /> flagged only</label>}
        <span class="quiet" role="status">{shown.length === result.hits.length ? many(shown.length, "row") : `${shown.length} of ${result.hits.length} rows`}</span>
        {outside.length > 0 && <button type="button" onClick={() => toggle(outside, true)}>Put all flagged into the basket{nShown < nFlagged && ` (${nFlagged.toLocaleString("en")} rows)`}</button>}
      </div>
      {nShown < nFlagged && <p class="quiet">{nShown.toLocaleString("en")} of the {nFlagged.toLocaleString("en")} flagged rows {nShown === 1 ? "is" : "are"} among these. To see more, set a larger number of rows under “Answer and filters”, and find them again.</p>}
      <div class="many" role="list" aria-label="Ranked rows">
        {shown.map((hit) => (
          <RowOf key={`${hit.rank}-${hit.id}`} hit={hit} top={top} out={flagged.has(hit.id)} open={hit.rank <= FIRST_WORDS} inBasket={basket.has(hit.id)}
            toggle={() => toggle([hit.id], !basket.has(hit.id))} opened={() => want([hit.rank])} showText={showText}
            lit={lit} setLit={setLit} scale={scale} answer={answer} again={again} />
        ))}
      </div>
      {result.hits.length === 0 && <p class="empty">No row was scored: the filter leaves none. Ask again with another filter.</p>}
      {result.hits.length > 0 && shown.length === 0 && <p class="empty">No row matches these filters.</p>}
    </section>
  );
}

function Query({ result, lit, setLit, links }: { result: Result; lit: Lit | null; setLit: (lit: Lit | null) => void; links: (number | undefined)[] | null }) {
  const word = lit?.kind === "answer" ? lit.word : null;
  return (
    <div class="stick">
      <div class="part"><span class="label">Asked</span><Shaded text={result.prompt} words={result.prompt_words} label="Prompt" /></div>
      <div class="part">
        <span class="label">Answered{" "}{result.generated && <span class="note">by the model now</span>}</span>
        <Shaded class="answer" text={result.response} words={result.response_words} span={result.span} label="Answer" links={links}
          at={word} onPoint={(at) => setLit(at === null ? null : { kind: "answer", word: at, rank: 0 })} />
      </div>
      {result.wanted !== null && <div class="part"><span class="label">Wanted</span><div class="text">{safe(result.wanted)}</div></div>}
    </div>
  );
}

/** Phrases whose words score high in several of the rows that were read; one is looked for among the rows. */
function Phrases({ result, search }: { result: Result; search: (text: string) => void }) {
  const n = result.phrases.length, note = phrasesNote(result);
  // One line until it is opened: rows stay where they are when phrases come.
  if (!n) return <p class="options quiet">{result.response_words ? "No phrase recurs in the first rows." : "Recurrent phrases: the first rows are not read yet."}</p>;
  return (
    <details class="options">
      <summary>{n === 1 ? "A phrase recurs" : `${n} phrases recur`} in the first rows</summary>
      {note && <p class="quiet">{note}</p>}
      <div class="scroll" role="region" aria-label="Recurrent phrases" tabIndex={0}>
        <table class="phrases" role="table">
          <thead role="rowgroup"><tr role="row">{["Phrase", "Where", "Scores high in", "In all other rows", "Lift"].map((name) => <th scope="col" role="columnheader" key={name}>{name}</th>)}</tr></thead>
          <tbody role="rowgroup">
            {result.phrases.map((phrase) => (
              <tr role="row" key={`${phrase.part} ${phrase.place} ${phrase.text}`}>
                <th scope="row" role="rowheader"><button type="button" class="phrase" title="Show only rows with this phrase" onClick={() => search(phrase.text)}><bdi>{safe(phrase.text)}</bdi></button></th>
                {phraseCells(phrase).map((cell, i) => <td role="cell" key={i}>{cell}</td>)}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

interface RowProps {
  hit: Hit; top: number; out: boolean; open: boolean; inBasket: boolean; toggle: () => void; opened: () => void; showText: boolean;
  lit: Lit | null; setLit: (lit: Lit | null) => void; scale: number; answer: Props["answer"]; again: Props["again"];
}

/** Asks with a row: the turn that was ranked, behind all that came before it. */
async function askWith(hit: Hit, span: Span) {
  const here = location.hash;
  const { turns } = await api.row(hit.id);
  const at = turns.findIndex((turn) => turn.answer === hit.turn);
  if (turns[at]?.content !== hit.response) {
    throw new Failure(0, "The text of this answer is not that of a message in its row.", "A question has an answer and the messages before it.", "Open its place in the file, and mark the phrase there.");
  }
  const question = questionOf(turns, at, span);
  if (!question) throw new Failure(0, "This row has no prompt.", "A question has a prompt and an answer.", "Mark a phrase in another row.");
  if (location.hash === here) handOver(question);
}

function RowOf({ hit, top, out, open, inBasket, toggle, opened, showText, lit, setLit, scale, answer, again }: RowProps) {
  const [isOpen, setOpen] = useState(open);
  const [failed, setFailed] = useState<unknown>(null);
  const { marked, props, clear } = useMarks([hit.prompt ?? "", hit.response ?? ""]);
  const inAnswer = marked && placeIn(answer, marked.phrase);
  const texts = showText && hit.prompt !== undefined && hit.response !== undefined;
  const line = (text: string) => safe(text.slice(0, 160)).replace(/\s+/g, " ");
  const links = lit?.kind === "answer" ? (hit.words?.map[lit.word] ?? null) : null;
  const at = lit?.kind === "row" && lit.rank === hit.rank ? lit.word : null;
  const share = top > 0 ? Math.min(1, Math.max(0, hit.score) / top) : 0;
  return (
    <div class={`row${isOpen ? "" : " shut"}`} role="listitem">
      <details open={isOpen} onToggle={(event) => { setOpen(event.currentTarget.open); if (event.currentTarget.open) opened(); }}>
        <summary>
          <span class="rank"><span class="hidden">Rank </span>{hit.rank}</span>
          <span class="score" title="score"><span class="hidden">score </span>{hit.score.toFixed(4)}<span class="bar" aria-hidden="true"><i style={{ width: `${100 * share}%` }} /></span></span>
          <span class="facts">
            {out && <span class="chip out">flagged</span>}
            <span class={hit.status === "confirmed" ? "chip confirmed" : "chip"}>{hit.status}</span>
            {hit.q_value !== null && <span class="quiet">q {figure(hit.q_value)}</span>}
            <bdi class="place">{safe(placeOf(hit))}</bdi>
            {hit.turn > 0 && <span class="quiet">turn {hit.turn + 1}</span>}
            {inBasket && <span class="chip confirmed">in the basket</span>}
          </span>
          {texts && <span class="snippet" dir="auto">{line(hit.prompt!)} → {line(hit.response!)}</span>}
        </summary>
        {isOpen && (
          <div class="body">
            {texts && <div class="part"><span class="label">Prompt</span><Shaded text={hit.prompt!} words={hit.words?.prompt} label={`Prompt of row ${hit.rank}`} {...props(0)} /></div>}
            {texts && (
              <div class="part"><span class="label">Response</span>
                <Shaded text={hit.response!} words={hit.words?.response} label={`Response of row ${hit.rank}`} links={links} scale={scale} at={at} {...props(1)}
                  onPoint={(word) => setLit(word === null ? null : { kind: "row", word, rank: hit.rank })} />
              </div>
            )}
            {marked && (
              <AskAgain phrase={marked.phrase} clear={clear} among={(where) => again({ where })}
                answer={inAnswer ? () => again({ span: inAnswer, wanted: "" }) : undefined}
                taught={marked.part === 1 ? () => askWith(hit, marked.span).catch(setFailed) : undefined} />
            )}
            {failed !== null && <Problem error={failed} />}
            <Chips label="Row" values={{ id: hit.id, ...metadataOf(hit.metadata, showText) }} />
            <Chips label="Confounds" title="What else could explain the rank" values={hit.confounds} />
            <p class="actions">
              <button type="button" aria-pressed={inBasket} onClick={toggle}>{inBasket ? "Take out of the basket" : "Put into the basket"}</button>
              <a href={addressOf(hit)}>Its place in the file</a>
            </p>
          </div>
        )}
      </details>
    </div>
  );
}

export function Chips({ label, title, values }: { label: string; title?: string; values: Record<string, unknown> }) {
  const pairs = Object.entries(values);
  if (!pairs.length) return null;
  return (
    <div class="part"><span class="label" title={title}>{label}</span>
      <ul class="chips">{pairs.map(([name, value]) => <li class="chip" key={name}><bdi>{safe(name.replaceAll("_", " "))}</bdi> <b><bdi>{safe(plain(value))}</bdi></b></li>)}</ul>
    </div>
  );
}
