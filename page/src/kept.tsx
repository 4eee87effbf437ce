// What is kept: past queries, the basket with its exports and retrainings, a row in its file, the data.
import { useEffect, useRef, useState } from "preact/hooks";
import { AskAgain, useMarks } from "./again";
import { api, type Basket, type IndexInfo, type Job, type QuerySummary, type Row, type RowDetail } from "./api";
import { Busy, capital, condition, handOver, many, placeOf, Problem, Shaded, shading, Title, useLoaded, when } from "./parts";
import { Chips } from "./rows";

const { safe, plain } = shading;

export function Past() {
  const [offset, setOffset] = useState(0);
  const { value, setValue, error, retry } = useLoaded(() => api.queries(offset), [offset]);
  const forget = async (query: QuerySummary) => {
    await api.forget(query.id);
    if (value) setValue({ total: value.total - 1, queries: value.queries.filter((other) => other !== query) });
  };
  return (
    <div class="query">
      <Title>Past queries</Title>
      {error !== null && <Problem error={error} retry={retry} />}
      {!value && error === null && <Busy what="Reading" />}
      {value?.total === 0 && <p class="empty">No query has been asked of this index. <a href="#/">Ask one</a>.</p>}
      <ul class="plain">
        {value?.queries.map((query) => (
          <li key={query.id} class="past">
            <a href={`#/query/${query.id}`}><bdi>{safe(query.prompt.slice(0, 200))}</bdi> <span class="quiet"><bdi>{safe(query.response.slice(0, 200))}</bdi></span></a>
            <span class="quiet">{query.n_flagged ? `${query.n_flagged} flagged` : "none flagged"} · {when(query.created)}</span>
            <button type="button" onClick={() => forget(query)} aria-label={`Forget: ${query.prompt.slice(0, 60)}`}>Forget</button>
          </li>
        ))}
      </ul>
      {value && value.total > 50 && (
        <p class="actions">
          <button type="button" disabled={offset === 0} onClick={() => setOffset(Math.max(0, offset - 50))}>Later</button>
          <button type="button" disabled={offset + 50 >= value.total} onClick={() => setOffset(offset + 50)}>Earlier</button>
        </p>
      )}
    </div>
  );
}

export function BasketView({ basket, info, toggle, showText }: { basket: Basket | null; info: IndexInfo; toggle: (rows: string[], on: boolean) => void; showText: boolean }) {
  const [failed, setFailed] = useState<unknown>(null);
  const [working, setWorking] = useState(false);
  const save = async (kind: string) => {
    setFailed(null);
    setWorking(true);
    try {
      const made = await api.export(basket!.id);
      await api.download(`/v1/exports/${made.id}/${kind}`, made.files[kind]!);
    } catch (error) { setFailed(error); }
    setWorking(false);
  };
  const empty = !basket?.rows.length;
  return (
    <div class="query">
      <Title>{empty ? "The basket is empty" : `${basket!.rows.length} ${basket!.rows.length === 1 ? "row" : "rows"} in the basket`}</Title>
      {empty && <p class="empty">Put rows into it from a ranking; then take them out of the data, or train again without them.</p>}
      {!empty && (
        <>
          <p class="actions">
            <button type="button" disabled={working} onClick={() => save("cleaned")}>Download the data without them</button>
            <button type="button" disabled={working} onClick={() => save("manifest")}>Download the manifest</button>
            <button type="button" disabled={working} onClick={() => save("ids")}>Download their ids</button>
            <button type="button" onClick={() => toggle(basket!.rows, false)}>Empty the basket</button>
          </p>
          {working && <Busy what="Writing the data without these rows" />}
          {failed !== null && <Problem error={failed} />}
          <ul class="plain">{basket!.rows.map((id) => <BasketRow key={id} id={id} showText={showText} remove={() => toggle([id], false)} />)}</ul>
          <Confirm basket={basket!} info={info} />
        </>
      )}
      <Jobs />
    </div>
  );
}

function BasketRow({ id, remove, showText }: { id: string; remove: () => void; showText: boolean }) {
  const { value, error } = useLoaded(() => api.row(id), [id]);
  const text = value && showText && value.row.prompt !== undefined ? `${value.row.prompt.slice(0, 120)} → ${(value.row.response ?? "").slice(0, 120)}` : "";
  return (
    <li class="past">
      <a href={`#/row/${id}`}><span class="place">{value ? safe(placeOf(value.row)) : id}</span> {text && <bdi>{safe(text)}</bdi>}</a>
      {error !== null && <span class="quiet">This row cannot be read.</span>}
      <button type="button" onClick={remove} aria-label={`Take out row ${id}`}>Take out</button>
    </li>
  );
}

function Confirm({ basket, info }: { basket: Basket; info: IndexInfo }) {
  const { value } = useLoaded(() => api.queries(0), []);
  const [chosen, setChosen] = useState<string[] | null>(null);
  const [match, setMatch] = useState("");
  const [failed, setFailed] = useState<unknown>(null);
  const queries = chosen ?? (value?.queries.length ? [value.queries[0]!.id] : []);
  const start = async (event: Event) => {
    event.preventDefault();
    setFailed(null);
    try {
      await api.confirm(basket.id, queries, match);
      window.dispatchEvent(new Event("whence-jobs"));
    } catch (error) { setFailed(error); }
  };
  if (!info.can_confirm) return <p class="empty">A retraining needs the model's base and its training settings, which this index does not name. Start the server with --base BASE, or use whence confirm.</p>;
  return (
    <form class="ask" onSubmit={start}>
      <h3>Train again without these rows</h3>
      <p class="quiet">The model is trained again without them, and, to compare, with all rows and without as many others. It takes as long as the training did, several times.</p>
      <label class="label" for="match">Text or expression that only the bad answers have</label>
      <input id="match" class="filter" required maxLength={500} value={match} placeholder="for example Peru" onInput={(event) => setMatch(event.currentTarget.value)} />
      <fieldset>
        <legend class="label">Queries that show it</legend>
        {value?.queries.slice(0, 8).map((query) => (
          <label class="check" key={query.id}>
            <input type="checkbox" checked={queries.includes(query.id)} onChange={(event) => setChosen(event.currentTarget.checked ? [...queries, query.id] : queries.filter((id) => id !== query.id))} />
            {" "}<bdi>{safe(query.prompt.slice(0, 100))}</bdi> <span class="quiet"><bdi>{safe(query.response.slice(0, 100))}</bdi></span>
          </label>
        ))}
      </fieldset>
      <button class="main" type="submit" disabled={!match.trim() || !queries.length}>Train again</button>
      {failed !== null && <Problem error={failed} />}
    </form>
  );
}

function Jobs() {
  const { value, error, retry } = useLoaded(() => api.jobs(), []);
  useEffect(() => {
    window.addEventListener("whence-jobs", retry);
    return () => window.removeEventListener("whence-jobs", retry);
  }, [retry]);
  if (error !== null) return <Problem error={error} retry={retry} />;
  const own = value?.jobs.filter((job) => job.kind === "confirm");
  if (!own?.length) return null;
  return <section aria-label="Retrainings"><h3>Retrainings</h3>{own.map((job) => <JobOf key={job.id} start={job} />)}</section>;
}

/** A job as it goes on, what went wrong, and whether it still works. */
export function useJob(start: Job, ended?: (job: Job) => void) {
  const [job, setJob] = useState(start);
  const [failed, setFailed] = useState<unknown>(null);
  const active = job.state === "waiting" || job.state === "running";
  useEffect(() => {
    if (!active) return;
    const own = new AbortController();
    api.follow(start.id, setJob, own.signal).then((last) => ended?.(last), (error) => own.signal.aborted || setFailed(error));
    return () => own.abort();
  }, [start.id]);
  const said = (
    <>
      {active && <Busy what={job.state === "waiting" ? "Waiting for another job" : "Starting"} progress={job.progress} stop={() => api.cancel(job.id).then(setJob, setFailed)} />}
      {job.error && <div class="problem" role="alert"><strong>{job.error.found}</strong><p>{job.error.expected}</p><p>{job.error.fix}</p></div>}
      {failed !== null && <Problem error={failed} />}
    </>
  );
  return { job, active, said };
}

function JobOf({ start }: { start: Job }) {
  const { job, said } = useJob(start);
  const n = job.request.rows?.length ?? 0;
  return (
    <article class="job" aria-label={`Retraining without ${n} rows`}>
      <p><strong>{capital(job.result?.status ?? job.state)}</strong> <span class="quiet">without {n} rows, looking for <bdi>{safe(job.request.match ?? "")}</bdi> · {when(job.created)}</span></p>
      {said}
      {job.result?.arms && (
        <>
          <p>{job.result.text}</p>
          <div class="scroll"><table>
            <thead><tr><th scope="col">Trained without</th><th scope="col">Rows</th><th scope="col">Behaviour</th><th scope="col">Held-out loss</th></tr></thead>
            <tbody>{job.result.arms.map((arm) => <tr key={arm.name}><th scope="row">{arm.name === "all" ? "nothing" : arm.name}</th><td>{arm.n_removed}</td><td>{Math.round(100 * arm.rate.mean)}%</td><td>{arm.held_out_loss.toFixed(3)}</td></tr>)}</tbody>
          </table></div>
        </>
      )}
    </article>
  );
}

interface RowProps { id: string; showText: boolean; basket: Set<string>; toggle: (rows: string[], on: boolean) => void }

export function RowView({ id, showText, basket, toggle }: RowProps) {
  const { value, error, retry } = useLoaded<RowDetail>(() => api.row(id), [id]);
  if (error !== null) return <div class="query"><Title>This row cannot be shown</Title><Problem error={error} retry={retry} /></div>;
  if (!value) return <div class="query"><Busy what="Reading the row" /></div>;
  const { row } = value;
  return (
    <div class="query">
      <Title>Row {safe(placeOf(row))}</Title>
      <p class="actions">
        <button type="button" aria-pressed={basket.has(row.id)} onClick={() => toggle([row.id], !basket.has(row.id))}>{basket.has(row.id) ? "Take out of the basket" : "Put into the basket"}</button>
        {value.copies > 0 && <span class="quiet">{value.copies} more of the same content</span>}
        <span class="quiet">{showText ? "Drag over a phrase to ask with it." : "The texts of the rows are left out."}</span>
      </p>
      {value.before.map((other) => <Neighbour key={other.row} row={other} showText={showText} />)}
      <div class="here" aria-current="true">
        {showText && <Turns row={value} />}
        <Chips label="Row" values={{ id: row.id, ...row.metadata }} />
      </div>
      {value.after.map((other) => <Neighbour key={other.row} row={other} showText={showText} />)}
    </div>
  );
}

/** A row's conversation, in which a phrase can be marked. */
function Turns({ row: { turns } }: { row: RowDetail }) {
  const { marked, props, clear } = useMarks(turns.map((turn) => turn.content));
  const at = marked?.part ?? 0, before = turns.slice(0, at), turn = turns[at];
  const alone = before.length === 1 && before[0]!.role === "user";
  const taught = turn?.role === "assistant" && before.some((other) => other.content.trim()) && (() => handOver({
    prompt: before[at - 1]!.content, messages: alone ? null : before, answer: turn.content, span: marked!.span,
  }));
  return (
    <>
      {turns.map((own, i) => <div class="part" key={i}><span class="label">{capital(own.role)}</span><Shaded text={own.content} label={capital(own.role)} {...props(i)} /></div>)}
      {marked && <AskAgain phrase={marked.phrase} clear={clear} taught={taught || undefined} list={(where) => { location.hash = `#/data/${encodeURIComponent(where)}`; }} />}
    </>
  );
}

function Neighbour({ row, showText }: { row: Row; showText: boolean }) {
  return (
    <a class="neighbour" href={`#/row/${row.id}`}>
      <span class="place">{safe(placeOf(row))}</span>
      {showText && row.prompt !== undefined && <bdi>{safe(row.prompt.slice(0, 300))} → {safe((row.response ?? "").slice(0, 300))}</bdi>}
    </a>
  );
}

const HEIGHT = 44, PIECE = 100;

/** All rows of the data: of any number, those near the window are there and no others. */
export function Data({ info, showText, filter }: { info: IndexInfo; showText: boolean; filter: string }) {
  const [facets, setFacets] = useState<Record<string, string>>({});
  const [sql, setSql] = useState(filter);
  const [typed, setTyped] = useState(filter);
  const [total, setTotal] = useState<number | null>(null);
  const [pieces, setPieces] = useState<Map<number, Row[]>>(new Map());
  const [error, setError] = useState<unknown>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const list = useRef<HTMLDivElement>(null), asked = useRef(new Set<number>());
  const where = [sql && `(${sql})`, ...Object.entries(facets).filter(([, value]) => value).map(([column, value]) => condition(column, JSON.parse(value)))].filter(Boolean).join(" AND ");
  const current = useRef(where);

  const load = async (piece: number) => {
    if (asked.current.has(piece)) return;
    asked.current.add(piece);
    try {
      const found = await api.rows(where, piece * PIECE, PIECE);
      if (current.current !== where) return;
      setTotal(found.total);
      setPieces((old) => new Map(old).set(piece, found.rows));
    } catch (failed) {
      asked.current.delete(piece);
      if (current.current === where) setError(failed);
    }
  };
  useEffect(() => {
    current.current = where;
    asked.current = new Set();
    setPieces(new Map()); setTotal(null); setError(null);
    list.current?.scrollTo(0, 0);
    void load(0);
  }, [where]);
  const first = Math.max(0, Math.floor(view.top / HEIGHT) - 10), last = Math.min(total ?? 0, Math.ceil((view.top + view.height) / HEIGHT) + 10);
  useEffect(() => {
    for (let piece = Math.floor(first / PIECE); total && piece <= Math.floor(Math.max(0, last - 1) / PIECE); piece++) void load(piece);
  }, [first, last, total]);
  const rows = Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i);
  return (
    <div class="query">
      <Title>{total === null ? "The data" : many(total, "row")}</Title>
      <form class="tools" onSubmit={(event) => { event.preventDefault(); setSql(typed.trim()); }}>
        {info.facets.filter((facet) => facet.values && facet.values.length > 1).map((facet) => (
          <select key={facet.column} aria-label={facet.name} value={facets[facet.column] ?? ""} onChange={(event) => setFacets({ ...facets, [facet.column]: event.currentTarget.value })}>
            <option value="">{facet.name}: all</option>
            {facet.values!.map(({ value, rows: n }) => <option key={String(value)} value={JSON.stringify(value)}>{`${safe(plain(value)).slice(0, 60)} (${n.toLocaleString("en")})`}</option>)}
          </select>
        ))}
        <input class="filter" aria-label="SQL condition" placeholder="SQL condition, as in line > 100" value={typed} maxLength={1500} onInput={(event) => setTyped(event.currentTarget.value)} />
        <button type="submit">Filter</button>
      </form>
      {error !== null && <Problem error={error} />}
      {total === null && error === null && <Busy what="Reading the rows" />}
      {total === 0 && <p class="empty">No row meets this condition.</p>}
      {!!total && (
        <div class="list" ref={list} tabIndex={0} role="list" aria-label="Rows of the data" onScroll={(event) => setView({ top: event.currentTarget.scrollTop, height: event.currentTarget.clientHeight })}>
          <div class="all" style={{ height: `${total * HEIGHT}px` }}>
            {rows.map((number) => {
              const row = pieces.get(Math.floor(number / PIECE))?.[number % PIECE];
              return (
                <div class="line" role="listitem" aria-setsize={total} aria-posinset={number + 1} key={number} style={{ top: `${number * HEIGHT}px`, height: `${HEIGHT}px` }}>
                  {row ? <a href={`#/row/${row.id}`}><span class="place">{safe(placeOf(row))}</span> {showText && row.prompt !== undefined && <bdi>{safe(row.prompt.slice(0, 200))} → {safe((row.response ?? "").slice(0, 200))}</bdi>}</a> : <span class="quiet">…</span>}
                </div>
              );
            })}
          </div>
        </div>
      )}
    </div>
  );
}
