// The conversation: a prompt, the answer, what is wrong with it, and the rows behind it.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type IndexInfo, type Message, type Progress, type Result, type Span } from "./api";
import { Mark, partOf } from "./mark";
import { Busy, condition, cut, Problem, shading, takeHanded, Title } from "./parts";
import { Ranking } from "./rows";

interface Props {
  id: string | null; info: IndexInfo; showText: boolean; basket: Set<string>; toggle: (rows: string[], on: boolean) => void;
}
type Phase = "idle" | "answering" | "answered" | "tracing" | "done";
/** What is asked of the rows. */
interface Asked { prompt: string; messages: Message[] | null; system: string | null; answer: string; complete: boolean; span: Span | null; wanted: string; where: string }

export function Ask({ id, info, showText, basket, toggle }: Props) {
  const [prompt, setPrompt] = useState("");
  const [messages, setMessages] = useState<Message[] | null>(null); // the whole prompt, where it is more than one text
  const [system, setSystem] = useState<string | null>(null); // of a past query that had one
  const [given, setGiven] = useState("");
  const [answer, setAnswer] = useState("");
  const [complete, setComplete] = useState(true);
  const [phase, setPhase] = useState<Phase>("idle");
  const [span, setSpan] = useState<Span | null>(null);
  const [wanted, setWanted] = useState("");
  const [k, setK] = useState(20);
  const [facets, setFacets] = useState<Record<string, string>>({});
  const [where, setWhere] = useState("");
  const [traced, setTraced] = useState<{ id: string | null; result: Result; where: string } | null>(null);
  const [place, setPlace] = useState<number | null>(null);
  const [progress, setProgress] = useState<Progress | null>(null);
  const [error, setError] = useState<{ error: unknown; retry: () => void } | null>(null);
  const running = useRef<AbortController | null>(null), shownId = useRef<string | null>(null);

  const stop = () => running.current?.abort();
  useEffect(() => stop, []);
  useEffect(() => {
    const handed = takeHanded();
    if (handed) { begin(); void again({ ...handed, where: "" }); }
    else if (id && id !== shownId.current) void reopen(id);
    else if (!id && shownId.current) begin();
  }, [id]);

  /** A new conversation, as after "Ask" was chosen on a past query. */
  function begin() {
    stop();
    shownId.current = null;
    setPrompt(""); setMessages(null); setSystem(null); setGiven(""); setComplete(true); setAnswer(""); setSpan(null); setWanted(""); setTraced(null); setError(null); setPhase("idle");
    setWhere(""); setFacets({});
  }

  async function reopen(past: string) {
    stop();
    setError(null);
    setPhase("tracing");
    try {
      const found = await api.query(past);
      shownId.current = past;
      const whole = found.request.prompt, filter = found.request.where ?? "";
      setPrompt(typeof whole === "string" ? whole : found.result.prompt);
      setMessages(typeof whole === "string" ? null : whole);
      setWhere(filter); setFacets({});
      setSystem(found.request.system ?? null);
      setAnswer(found.result.response);
      setComplete(found.result.complete);
      setSpan(found.result.span);
      setWanted(found.result.wanted ?? "");
      setTraced({ ...found, where: filter });
      setPhase("done");
    } catch (failed) {
      setError({ error: failed, retry: () => reopen(past) });
      setPhase("idle");
    }
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
    setTraced(null); setSpan(null); setWanted(""); setAnswer(given);
    if (given.trim()) { setComplete(true); setPhase("answered"); return; }
    let text = "";
    const found = await api.generate(messages ?? prompt, system, { ...listener, text: (piece) => { setPlace(null); text += piece; setAnswer(text); } }, signal);
    setAnswer(found.text);
    setComplete(found.complete);
    setPhase("answered");
  });

  const chosen = Object.entries(facets).filter(([, value]) => value).map(([column, value]) => condition(column, JSON.parse(value)));
  const filter = [where && (chosen.length ? `(${where})` : where), ...chosen].filter(Boolean).join(" AND ");
  const trace = (asked: Asked) => run("tracing", "answered", () => trace(asked), async (signal) => {
    const wish = asked.wanted.trim() || null;
    const request = { prompt: asked.messages ?? asked.prompt, system: asked.system, response: asked.answer, complete: asked.complete, k, where: asked.where || null, span: wish ? null : asked.span, wanted: wish };
    const found = await api.trace(request, { ...listener, ranked: (result) => setTraced({ id: null, result, where: asked.where }) }, signal);
    setTraced({ ...found, where: asked.where });
    setPhase("done");
    shownId.current = found.id;
    location.hash = `#/query/${found.id}`;
  });
  const find = () => trace({ prompt, messages, system, answer, complete, span, wanted, where: filter });
  /** The same question with something changed, which the page then shows; or another view's question. */
  const again = (change: Partial<Asked>) => {
    const other = change.prompt === undefined ? {} : { system: null, complete: true };
    const asked = { prompt, messages, system, answer, complete, span, wanted: "", where: filter, ...other, ...change };
    setPrompt(asked.prompt); setMessages(asked.messages); setSystem(asked.system); setGiven(""); setAnswer(asked.answer); setComplete(asked.complete);
    setSpan(asked.span); setWanted(asked.wanted); setWhere(asked.where); setFacets({});
    window.scrollTo(0, 0);
    return trace(asked);
  };

  const marked = span ? partOf(answer, span) : "";
  const busy = phase === "answering" || phase === "tracing";
  const empty = !answer && phase !== "answering";
  return (
    <div class="query">
      {traced ? <Verdict result={traced.result} id={traced.id} showText={showText} where={traced.where} unfiltered={() => again({ wanted, where: "" })} /> : <Title>{empty ? "What did the model get wrong?" : "Which words are wrong?"}</Title>}
      <form class="ask" onSubmit={(event) => { event.preventDefault(); if (prompt.trim() && !busy) void ask(); }}>
        <label for="prompt" class="label">Prompt</label>
        <textarea id="prompt" rows={2} value={prompt} maxLength={100000} placeholder="A prompt that the model answers badly" onInput={(event) => { setPrompt(event.currentTarget.value); setMessages(null); setSystem(null); }}
          onKeyDown={(event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); event.currentTarget.form?.requestSubmit(); } }} />
        <details class="options">
          <summary>Answer and filters</summary>
          <label for="given" class="label">The bad answer, if you have it; left empty, the model answers</label>
          <textarea id="given" rows={2} value={given} maxLength={100000} onInput={(event) => setGiven(event.currentTarget.value)} />
          <div class="tools">
            <label class="only">rows <input type="number" min={1} max={info.max_k} value={k} onInput={(event) => setK(Math.min(info.max_k, Math.max(1, Number(event.currentTarget.value) || 1)))} /></label>
            {info.facets.filter((facet) => facet.values && facet.values.length > 1).map((facet) => (
              <select key={facet.column} aria-label={`Only rows whose ${facet.name} is`} value={facets[facet.column] ?? ""} onChange={(event) => setFacets({ ...facets, [facet.column]: event.currentTarget.value })}>
                <option value="">{facet.name}: all</option>
                {facet.values!.map(({ value, rows }) => <option key={String(value)} value={JSON.stringify(value)}>{`${String(value).slice(0, 60)} (${rows.toLocaleString("en")})`}</option>)}
              </select>
            ))}
            <input class="filter" aria-label="Only rows that meet an SQL condition" placeholder="SQL condition, as in source = 'vendor_b'" value={where} maxLength={1500} onInput={(event) => setWhere(event.currentTarget.value)} />
          </div>
        </details>
        <button type="submit" class="main" disabled={!prompt.trim() || busy}>{given.trim() ? "Use this answer" : "Ask the model"}</button>
        {info.plain_text && <p class="quiet">The index's rows are plain text: the prompt is continued without a chat template.</p>}
      </form>
      {phase === "answering" && <div class="part"><span class="label">Answer</span><div class="text answer" aria-live="polite" aria-busy="true">{answer || " "}</div></div>}
      {!empty && phase !== "answering" && (
        <div class="wrong">
          <div class="part"><span class="label">Answer{" "}<span class="note">drag over what is wrong</span></span><Mark text={answer} span={span} onMark={setSpan} /></div>
          {!complete && <p class="quiet">The answer was stopped at its limit of new tokens.</p>}
          <form class="tools" onSubmit={(event) => { event.preventDefault(); if (!busy) void find(); }}>
            <input class="filter" aria-label="Wanted answer" placeholder="or type the answer that you wanted" value={wanted} maxLength={100000} onInput={(event) => setWanted(event.currentTarget.value)} />
            <button type="submit" class="main" disabled={busy || !answer.trim()}>{wanted.trim() ? "Find what pushes away from it" : marked ? `Find the rows behind “${cut(marked)}”` : "Find the rows behind the answer"}</button>
          </form>
        </div>
      )}
      {busy && <Busy what={phase === "answering" ? "The model answers" : "Looking through the rows"} place={place} progress={progress} stop={stop} />}
      {error && <Problem error={error.error} retry={error.retry} />}
      {empty && phase === "idle" && !error && (
        <p class="empty">
          Type a prompt that the model answers badly. It answers here; you mark the wrong words, and the training rows behind them are ranked.
          {" "}{info.rows.toLocaleString("en")} rows of {info.name} are searched.
        </p>
      )}
      {traced && <Ranking key={traced.id ?? "ranked"} id={traced.id} result={traced.result} info={info} showText={showText} basket={basket} toggle={toggle} answer={answer} again={(change) => again({ wanted, ...change })} />}
    </div>
  );
}

const accounts = (n: number, { gain, share }: { gain: number; share: number }) =>
  `${n === 1 ? "This row accounts" : `These ${n.toLocaleString("en")} rows account`} for about ${(100 * share).toFixed(0)}% of what fine-tuning added to this answer (${gain.toFixed(1)} nats). This is an estimate; a retraining without ${n === 1 ? "it" : "them"} measures it (whence confirm).`;

interface VerdictProps { result: Result; id: string | null; showText: boolean; where: string; unfiltered: () => void }

function Verdict({ result, id, showText, where, unfiltered }: VerdictProps) {
  const { verdict } = result;
  const [failed, setFailed] = useState<unknown>(null);
  const text = verdict ? verdict.text.charAt(0).toUpperCase() + verdict.text.slice(1) : id === null ? "The rows are ranked; the verdict follows." : "Nothing was calibrated: the rows are ranked, none is flagged, and a ranking always has a first row.";
  const sentence = /^(.+?[.!?])\s+(?=\S)/su.exec(text);
  const none = !verdict?.flagged.length;
  const save = async () => {
    try { setFailed(null); await api.download(`/v1/queries/${id}/report?text=${showText}`, `whence-${id}.html`); } catch (error) { setFailed(error); }
  };
  return (
    <div aria-live="polite">
      <h2 class={`verdict${none ? " none" : ""}`}>{sentence ? sentence[1] : text}</h2>
      {sentence && <p class="verdict-rest">{text.slice(sentence[0].length)}</p>}
      {!none && result.explained && <p class="verdict-rest">{accounts(verdict.flagged.length, result.explained)}</p>}
      {none && verdict?.null_model && <p class="verdict-rest">No row stands out from what ordinary answers score. The cause may be spread over many rows, be the base model's own, or lie outside this data.</p>}
      {result.confound && <p class="confound"><strong>Confound</strong>{result.confound}</p>}
      {id && <p class="actions"><button type="button" onClick={save}>Download the report</button> <span class="quiet">{result.method} {result.method_version}, {result.n_rows.toLocaleString("en")} rows scored</span></p>}
      {where && <p class="actions"><span class="quiet">Only rows that meet <code><bdi>{shading.safe(where)}</bdi></code></span> {id && <button type="button" onClick={unfiltered}>Ask among all rows</button>}</p>}
      {failed !== null && <Problem error={failed} />}
    </div>
  );
}
