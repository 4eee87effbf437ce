// The conversation: a prompt, the answer, what is wrong with it, and the rows behind it.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { api, type IndexInfo, type Message, type Progress, type Result, type Span } from "./api";
import { written } from "./json";
import { Mark, partOf } from "./mark";
import { calibrationNote, explainedNote, scoredNote, share } from "./notes";
import { Busy, capital, cut, entitle, IndexNotes, many, Problem, refocus, shading, takeHanded, Title } from "./parts";
import { Ranking } from "./rows";

interface Props {
  id: string | null; /** Anew with every change of the address. */ route: string[]; info: IndexInfo; showText: boolean; basket: Set<string>; toggle: (rows: string[], on: boolean) => void;
}
type Phase = "idle" | "opening" | "answering" | "answered" | "tracing" | "done";
/** A prompt. messages: the whole of it, where it is more than one text. system: of a past query that had one. */
interface Spoken { prompt: string; messages: Message[] | null; system: string | null }
/** How the rows are ranked and flagged; null: as the index and the server have it. */
interface Way { method: string | null; fdr: number | null }
const USUAL: Way = { method: null, fdr: null }, USUAL_K = 20;
/** Where a request names no rate. */
const USUAL_FDR = 0.05;
/** What is asked of the rows. */
interface Asked extends Spoken { answer: string; complete: boolean; span: Span | null; wanted: string; where: string; k: number; way: Way }

const NOTHING: Spoken = { prompt: "", messages: null, system: null };
/** The prompt with another text: the last user message is what is shown of it. */
const edited = (old: Spoken, prompt: string): Spoken => {
  const at = old.messages?.findLastIndex((message) => message.role === "user") ?? -1;
  return { ...old, prompt, messages: at < 0 ? null : old.messages!.map((message, i) => (i === at ? { ...message, content: prompt } : message)) };
};
const isSame = (a: Spoken, b: Spoken) => written([a.prompt, a.messages, a.system]) === written([b.prompt, b.messages, b.system]);

export function Ask({ id, route, info, showText, basket, toggle }: Props) {
  const [draft, setDraft] = useState<Spoken>(NOTHING); // what is in the box
  const [spoken, setSpoken] = useState<Spoken>(NOTHING); // what the answer below answers
  const [given, setGiven] = useState("");
  const [answer, setAnswer] = useState("");
  const [complete, setComplete] = useState(true);
  const [phase, setPhase] = useState<Phase>("idle");
  const [span, setSpan] = useState<Span | null>(null);
  const [wanted, setWanted] = useState("");
  const [k, setK] = useState(USUAL_K);
  const [way, setWay] = useState(USUAL);
  const [facets, setFacets] = useState<Record<string, string>>({});
  const [where, setWhere] = useState("");
  const [traced, setTraced] = useState<{ id: string | null; result: Result; asked: Asked; outdated?: boolean } | null>(null);
  const [place, setPlace] = useState<number | null>(null);
  const [progress, setProgress] = useState<Progress | null>(null);
  const [error, setError] = useState<{ error: unknown; retry: () => void } | null>(null);
  const running = useRef<AbortController | null>(null), shownId = useRef<string | null>(null), idBefore = useRef<string | null>(null);

  const stop = () => running.current?.abort();
  useEffect(() => { if (phase === "answered" || phase === "done") refocus(); }, [phase]);
  useEffect(() => stop, []);
  useLayoutEffect(() => { // at once: what is typed after a change of the address stays
    const handed = takeHanded(), before = idBefore.current;
    idBefore.current = id;
    if (handed) { begin(); void again({ ...handed, where: "", k: USUAL_K, way: USUAL }); }
    else if (id && id !== shownId.current) void reopen(id);
    else if (!id && before) begin();
  }, [id, route]);

  /** A new conversation, as after "Ask" was chosen on a past query. */
  function begin() {
    stop();
    running.current = shownId.current = null;
    setDraft(NOTHING); setSpoken(NOTHING); setGiven(""); setComplete(true); setAnswer(""); setSpan(null); setWanted(""); setTraced(null); setError(null); setPhase("idle");
    setWhere(""); setFacets({}); setK(USUAL_K); setWay(USUAL);
  }

  function reopen(past: string): Promise<void> {
    begin(); // nothing of another query stands under this address
    return run("opening", "idle", () => reopen(past), async (signal) => {
      const { id: found, request, result, outdated } = await api.query(past, signal);
      const whole = request.prompt, filter = request.where ?? "";
      const own = { prompt: result.prompt, messages: typeof whole === "string" ? null : whole, system: request.system ?? null };
      if (typeof whole === "string") own.prompt = whole;
      const way = { method: request.method ?? null, fdr: request.fdr ?? null };
      const asked = { ...own, answer: result.response, complete: result.complete, span: result.span, wanted: result.wanted ?? "", where: filter, k: request.k ?? USUAL_K, way };
      shownId.current = past;
      show(asked);
      setTraced({ id: found, result, asked, outdated });
      setPhase("done");
    });
  }

  /** Puts what is asked of the rows on the page. */
  function show(asked: Asked) {
    const { prompt, messages, system } = asked;
    setDraft({ prompt, messages, system }); setSpoken({ prompt, messages, system }); setGiven("");
    setAnswer(asked.answer); setComplete(asked.complete); setSpan(asked.span); setWanted(asked.wanted); setWhere(asked.where); setFacets({}); setK(asked.k); setWay(asked.way);
  }

  /** Runs one request that may wait; an abort is the person's own. */
  async function run(next: Phase, before: Phase, retry: () => void, work: (signal: AbortSignal) => Promise<void>) {
    stop();
    const own = running.current = new AbortController();
    setError(null); setPlace(null); setProgress(null);
    setPhase(next);
    try {
      await work(own.signal);
    } catch (failed) {
      if (own === running.current) setPhase(before);
      if (!own.signal.aborted) setError({ error: failed, retry });
    }
  }
  const listener = { queued: setPlace, progress: (now: Progress) => { setPlace(null); setProgress(now); } };

  const ask = () => run("answering", "idle", ask, async (signal) => {
    setTraced(null); setSpan(null); setWanted(""); setSpoken(draft); setAnswer(given);
    if (given.trim()) { setComplete(true); setPhase("answered"); return; }
    let text = "";
    setComplete(false); // until its end is there
    const found = await api.generate(draft.messages ?? draft.prompt, draft.system, { ...listener, text: (piece) => { setPlace(null); text += piece; setAnswer(text); } }, signal);
    setAnswer(found.text);
    setComplete(found.complete);
    setPhase("answered");
  });

  const chosen = Object.entries(facets).filter(([, value]) => value).map(([, condition]) => condition);
  const filter = [where && (chosen.length ? `(${where})` : where), ...chosen].filter(Boolean).join(" AND ");
  const trace = (asked: Asked) => run("tracing", "answered", () => trace(asked), async (signal) => {
    const wish = asked.wanted.trim() || null;
    const request = { prompt: asked.messages ?? asked.prompt, system: asked.system, response: asked.answer, complete: asked.complete, k: Math.min(asked.k, info.max_k), method: asked.way.method, ...(asked.way.fdr === null ? {} : { fdr: asked.way.fdr }),
      where: asked.where || null, span: wish ? null : asked.span, wanted: wish };
    const found = await api.trace(request, { ...listener, ranked: (result) => setTraced({ id: null, result, asked }) }, signal);
    setTraced({ ...found, asked });
    setPhase("done");
    shownId.current = found.id;
    location.hash = `#/query/${found.id}`;
  });
  const find = () => trace({ ...spoken, answer, complete, span, wanted, where: filter, k, way });
  /** The same question with something changed, which the page then shows; or another view's question. */
  const again = (change: Partial<Asked>) => {
    const other = change.prompt === undefined ? {} : { system: null, complete: true };
    const asked = { ...spoken, answer, complete, span, wanted: "", where: filter, k, way, ...other, ...change };
    show(asked);
    window.scrollTo(0, 0);
    return trace(asked);
  };

  const marked = span ? partOf(answer, span) : "";
  const busy = phase === "answering" || phase === "tracing" || phase === "opening";
  const changed = !isSame(draft, spoken);
  const others = (draft.messages?.length ?? 1) - 1;
  const before = [draft.system && "the system prompt", others > 0 && many(others, "other message")].filter(Boolean).join(" and ");
  const unusual = [way.method !== null && way.method !== info.method && `method ${way.method}`, way.fdr !== null && way.fdr !== USUAL_FDR && `a false discovery rate of ${share(way.fdr)}`].filter(Boolean).join(" and ");
  const empty = !answer && phase !== "answering";
  return (
    <div class="query">
      {traced ? <Verdict result={traced.result} id={traced.id} showText={showText} running={busy} resume={() => trace(traced.asked)} where={traced.asked.where} outdated={traced.outdated} unfiltered={() => again({ wanted, where: "" })} /> : <Title>{empty ? "What did the model get wrong?" : "Which words are wrong?"}</Title>}
      <form class="ask" onSubmit={(event) => { event.preventDefault(); if (draft.prompt.trim() && !busy) void ask(); }}>
        <label for="prompt" class="label">Prompt</label>
        <textarea id="prompt" rows={2} value={draft.prompt} maxLength={100000} placeholder="A prompt that the model answers badly" readOnly={phase === "opening"} onInput={(event) => setDraft(edited(draft, event.currentTarget.value))}
          onKeyDown={(event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); event.currentTarget.form?.requestSubmit(); } }} />
        {before && <p class="quiet">Asked with {before} of the conversation. <button type="button" onClick={() => setDraft({ ...NOTHING, prompt: draft.prompt })}>Ask it alone</button></p>}
        <details class="options">
          <summary>Answer and filters</summary>
          <label for="given" class="label">The bad answer, if you have it; left empty, the model answers</label>
          <textarea id="given" rows={2} value={given} maxLength={100000} onInput={(event) => setGiven(event.currentTarget.value)} />
          <div class="tools">
            <label class="only">rows <input type="number" min={1} max={info.max_k} value={k} onInput={(event) => setK(Math.min(info.max_k, Math.max(1, Number(event.currentTarget.value) || 1)))} /></label>
            {info.facets.filter((facet) => facet.values && facet.values.length > 1).map((facet) => (
              <select key={facet.column} aria-label={`Only rows whose ${facet.name} is`} value={facets[facet.column] ?? ""} onChange={(event) => setFacets({ ...facets, [facet.column]: event.currentTarget.value })}>
                <option value="">{facet.name}: all</option>
                {facet.values!.map(({ text, where, rows }) => <option key={where} value={where}>{`${shading.safe(text).slice(0, 60)} (${rows.toLocaleString("en")})`}</option>)}
              </select>
            ))}
            <input class="filter" aria-label="Only rows that meet an SQL condition" placeholder="SQL condition, as in source = 'vendor_b'" value={where} maxLength={1500} onInput={(event) => setWhere(event.currentTarget.value)} />
          </div>
        </details>
        {unusual && <p class="quiet">Asked with {unusual}. <button type="button" onClick={() => setWay(USUAL)}>Use the defaults</button></p>}
        <button type="submit" class="main" disabled={!draft.prompt.trim() || busy}>{given.trim() ? "Use this answer" : "Ask the model"}</button>
        {info.plain_text && <p class="quiet">The index's rows are plain text: the prompt is continued without a chat template.</p>}
      </form>
      {phase === "answering" && <div class="part"><span class="label">Answer</span><div class="text answer" aria-live="polite" aria-busy="true">{answer || " "}</div></div>}
      {!empty && phase !== "answering" && (
        <div class="wrong">
          <div class="part"><span class="label">Answer{" "}<span class="note">drag over what is wrong</span></span><Mark text={answer} span={span} onMark={setSpan} /></div>
          {!complete && <p class="quiet">The answer was stopped before its end.</p>}
          {changed && !busy && <p class="quiet">The prompt has been changed; this answers the one before. Ask again, or <button type="button" onClick={() => setDraft(spoken)}>go back to it</button></p>}
          <form class="tools" onSubmit={(event) => { event.preventDefault(); if (!busy && !changed) void find(); }}>
            <input class="filter" aria-label="Wanted answer" placeholder="or type the answer that you wanted" value={wanted} maxLength={100000} onInput={(event) => setWanted(event.currentTarget.value)} />
            <button type="submit" class="main" disabled={busy || changed || !answer.trim()}>{wanted.trim() ? "Find what pushes away from it" : marked ? `Find the rows behind “${cut(marked)}”` : "Find the rows behind the answer"}</button>
          </form>
        </div>
      )}
      {busy && <Busy what={phase === "answering" ? "The model answers" : phase === "opening" ? "Reading the query" : "Looking through the rows"} place={place} progress={progress} stop={stop} />}
      {error && <Problem error={error.error} retry={error.retry} />}
      {empty && phase === "idle" && !error && (
        <p class="empty">
          Type a prompt that the model answers badly. It answers here; you mark the wrong words, and the training rows behind them are ranked.
          {" "}{info.rows.toLocaleString("en")} rows of {info.name} are searched.
        </p>
      )}
      {phase !== "opening" && <IndexNotes info={info} open={empty} />}
      {traced && <Ranking key={traced.id ?? "ranked"} id={traced.id} result={traced.result} info={info} showText={showText} basket={basket} toggle={toggle} answer={answer} again={(change) => again({ wanted, ...change })} />}
    </div>
  );
}

interface VerdictProps {
  result: Result; id: string | null; showText: boolean; where: string; outdated?: boolean; unfiltered: () => void;
  /** Whether the verdict may still come, and how to ask for it where it was stopped. */
  running: boolean; resume: () => void;
}

const UNJUDGED = "Stopped before the verdict. The rows are ranked, and none has been compared with what ordinary answers score.";

function Verdict({ result, id, showText, where, outdated, unfiltered, running, resume }: VerdictProps) {
  const { verdict } = result;
  const [failed, setFailed] = useState<unknown>(null);
  const text = verdict ? verdict.text.charAt(0).toUpperCase() + verdict.text.slice(1) : id === null ? (running ? "The rows are ranked; the verdict follows." : UNJUDGED) : "Nothing was calibrated: the rows are ranked, none is flagged, and a ranking always has a first row.";
  const sentence = /^(.+?[.!?])\s+(?=\S)/su.exec(text);
  const none = !verdict?.flagged.length, accounts = explainedNote(result), calibrated = calibrationNote(result);
  const heading = sentence?.[1] ?? text;
  useEffect(() => entitle(heading), [heading]);
  const save = async () => {
    try { setFailed(null); await api.download(`/v1/queries/${id}/report?text=${showText}`, `whence-${id}.html`); } catch (error) { setFailed(error); }
  };
  return (
    <div aria-live="polite">
      <h2 class={`verdict${none ? " none" : ""}`} tabIndex={-1}>{heading}</h2>
      {sentence && <p class="verdict-rest">{text.slice(sentence[0].length)}</p>}
      {accounts && <p class="verdict-rest">{accounts}</p>}
      {none && verdict?.null_model && <p class="verdict-rest">No row stands out from what ordinary answers score. The cause may be spread over many rows, be the base model's own, or lie outside this data.</p>}
      {calibrated && <p class="quiet">{capital(calibrated)}</p>}
      {result.confirmation && <p class="confound"><strong>Trained again</strong> {shading.safe(result.confirmation)}</p>}
      {result.confound && <p class="confound"><strong>What else could explain it</strong> {shading.safe(result.confound)}</p>}
      {outdated && <p class="confound"><strong>Of the rows of then</strong> Rows came into the index or left it since this was asked. <button type="button" disabled={running} onClick={resume}>Ask again</button></p>}
      {!id && !running && <p class="actions"><button type="button" onClick={resume}>Go on to the verdict</button></p>}
      {id && <p class="actions"><button type="button" onClick={save}>Download the report</button> <span class="quiet">{result.method} {result.method_version}, {scoredNote(result)}</span></p>}
      {where && <p class="actions"><span class="quiet">Only rows that meet <code><bdi>{shading.safe(where)}</bdi></code></span> {id && <button type="button" onClick={unfiltered}>Ask among all rows</button>}</p>}
      {failed !== null && <Problem error={failed} />}
    </div>
  );
}
