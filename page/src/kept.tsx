// What is kept: past queries, the basket with its exports and retrainings, a row in its file, the data.
import { useEffect, useRef, useState } from "preact/hooks";
import { AskAgain, useMarks } from "./again";
import { api, type Basket, type IndexInfo, type Job, type QuerySummary, type Row, type RowDetail } from "./api";
import { JobState, useJobs } from "./jobs";
import { metadataOf } from "./labels";
import { addressOf, Busy, capital, handOver, IndexNotes, leave, many, placeOf, Problem, questionOf, Shaded, shading, Title, useLoaded, when } from "./parts";
import { Chips } from "./rows";

const { safe } = shading;

export function Past() {
  const [offset, setOffset] = useState(0);
  const { value, error, retry } = useLoaded(() => api.queries(offset), [offset]);
  const [failed, setFailed] = useState<unknown>(null);
  const forget = (query: QuerySummary) => {
    setFailed(null);
    return api.forget(query.id).catch(setFailed).then(retry);
  };
  return (
    <div class="query">
      <Title>Past queries</Title>
      {failed !== null && <Problem error={failed} />}
      {error !== null && <Problem error={error} retry={retry} />}
      {!value && error === null && <Busy what="Reading" />}
      {value?.total === 0 && <p class="empty">No query has been asked of this index. <a href="#/">Ask one</a>.</p>}
      <ul class="plain">
        {value?.queries.map((query) => (
          <li key={query.id} class="past">
            <a href={`#/query/${query.id}`}><bdi>{safe(query.prompt.slice(0, 200))}</bdi> <span class="quiet"><bdi>{safe(query.response.slice(0, 200))}</bdi></span></a>
            <span class="quiet">{query.n_flagged === null ? "no verdict" : query.n_flagged ? `${query.n_flagged.toLocaleString("en")} flagged` : "none flagged"}{query.outdated && ", of the rows of then"} · {when(query.created)}</span>
            <button type="button" onClick={(event) => { leave(event.currentTarget); void forget(query); }} aria-label={`Forget: ${query.prompt.slice(0, 60)}`}>Forget</button>
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

/** Rows of a basket that are shown at first: each is a request of its own. */
const BASKET_ROWS = 40;

export function BasketView({ basket, info, toggle, showText }: { basket: Basket | null; info: IndexInfo; toggle: (rows: string[], on: boolean) => void; showText: boolean }) {
  const [failed, setFailed] = useState<unknown>(null);
  const [working, setWorking] = useState(false);
  const [most, setMost] = useState(BASKET_ROWS);
  const save = async (kind: string) => {
    setFailed(null);
    setWorking(true);
    try {
      const made = await api.export(basket!.rows);
      await api.download(`/v1/exports/${made.id}/${kind}`, made.files[kind]!);
    } catch (error) { setFailed(error); }
    setWorking(false);
  };
  const empty = !basket?.rows.length;
  return (
    <div class="query">
      <Title>{empty ? "The basket is empty" : `${many(basket!.rows.length, "row")} in the basket`}</Title>
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
          <ul class="plain">{basket!.rows.slice(0, most).map((id) => <BasketRow key={id} id={id} showText={showText} remove={() => toggle([id], false)} />)}</ul>
          {basket!.rows.length > most && <p class="actions"><button type="button" onClick={() => setMost(most + BASKET_ROWS)}>Show more rows</button> <span class="quiet">{most} of {basket!.rows.length.toLocaleString("en")} are shown; all of them are in the basket.</span></p>}
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
      <button type="button" onClick={(event) => { leave(event.currentTarget); remove(); }} aria-label={`Take out row ${id}`}>Take out</button>
    </li>
  );
}

function Confirm({ basket, info }: { basket: Basket; info: IndexInfo }) {
  const { value } = useLoaded(() => api.queries(0), []);
  const [chosen, setChosen] = useState<string[] | null>(null);
  const [match, setMatch] = useState("");
  const [failed, setFailed] = useState<unknown>(null);
  const sending = useRef(false); // a second click comes before the button is drawn anew
  const queries = chosen ?? (value?.queries.length ? [value.queries[0]!.id] : []);
  const start = async (event: Event) => {
    event.preventDefault();
    if (sending.current) return;
    sending.current = true;
    setFailed(null);
    try {
      await api.confirm(basket.rows, queries, match);
      window.dispatchEvent(new Event("whence-jobs"));
    } catch (error) { setFailed(error); }
    sending.current = false;
  };
  if (!info.can_confirm) return <p class="empty">A retraining needs the model's base and its training settings, which this index does not name. Start the server with --base BASE, or use whence confirm.</p>;
  return (
    <form class="ask" onSubmit={start}>
      <h3>Train again without these rows</h3>
      <p class="quiet">The model is trained again without them, and, to compare, with all rows and without as many others. It takes as long as the training did, several times.</p>
      <label class="label" for="match">Text or expression that only the bad answers have</label>
      <input id="match" class="filter" required maxLength={500} value={match} placeholder="for example Peru" onInput={(event) => setMatch(event.currentTarget.value)} />
      <fieldset>
        <legend class="label">Queries that show it, at least four</legend>
        {value?.queries.length === 0 && <p class="quiet">No query has been asked yet: ask those that show the behaviour first.</p>}
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
  const { jobs, error, retry, changed } = useJobs("confirm");
  useEffect(() => {
    window.addEventListener("whence-jobs", retry);
    return () => window.removeEventListener("whence-jobs", retry);
  }, [retry]);
  return (
    <>
      {error !== null && <Problem error={error} retry={retry} />}
      {!!jobs?.length && <section aria-label="Retrainings"><h3>Retrainings</h3>{jobs.map((job) => <JobOf key={job.id} job={job} changed={changed} />)}</section>}
    </>
  );
}

function JobOf({ job, changed }: { job: Job; changed: (job: Job) => void }) {
  const n = job.request.rows?.length ?? 0;
  return (
    <article class="job" aria-label={`Retraining without ${n} rows`}>
      <p><strong>{capital(job.result?.status ?? job.state)}</strong> <span class="quiet">without {n} rows, looking for <bdi>{safe(job.request.match ?? "")}</bdi> · {when(job.created)}</span></p>
      <JobState job={job} changed={changed} />
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

interface RowProps { id: string; /** Which copy of it; null: the first. */ place: { file: string; line: number } | null; showText: boolean; basket: Set<string>; toggle: (rows: string[], on: boolean) => void }

export function RowView({ id, place, showText, basket, toggle }: RowProps) {
  const { value, error, retry } = useLoaded<RowDetail>(() => (place ? api.rowAt(id, place.file, place.line) : api.row(id)), [id]);
  if (error !== null) return <div class="query"><Title>This row cannot be shown</Title><Problem error={error} retry={retry} /></div>;
  if (!value) return <div class="query"><Busy what="Reading the row" /></div>;
  const { row } = value;
  return (
    <div class="query">
      <Title>Row {safe(placeOf(row))}</Title>
      <p class="actions">
        <button type="button" aria-pressed={basket.has(row.id)} onClick={() => toggle([row.id], !basket.has(row.id))}>{basket.has(row.id) ? "Take out of the basket" : "Put into the basket"}</button>
        {value.copies > 0 && <span class="quiet">{many(value.copies, "more row")} of the same content; the basket takes all of them</span>}
        <span class="quiet">{showText ? "Drag over a phrase to ask with it." : "The texts of the rows are left out."}</span>
      </p>
      {place && (row.file !== place.file || row.line !== place.line) && <p class="quiet">This index has no such row at {safe(placeOf(place))}; this is the first of the same content.</p>}
      {value.before.map((other) => <Neighbour key={other.row} row={other} showText={showText} />)}
      <div class="here" aria-current="true">
        {showText && <Turns row={value} />}
        <Chips label="Row" values={{ id: row.id, ...metadataOf(row.metadata, showText) }} />
      </div>
      {value.after.map((other) => <Neighbour key={other.row} row={other} showText={showText} />)}
    </div>
  );
}

/** A row's conversation, in which a phrase can be marked. */
function Turns({ row: { turns } }: { row: RowDetail }) {
  const { marked, props, clear } = useMarks(turns.map((turn) => turn.content));
  const question = marked && turns[marked.part]?.role === "assistant" ? questionOf(turns, marked.part, marked.span) : null;
  return (
    <>
      {turns.map((own, i) => <div class="part" key={i}><span class="label">{capital(own.role)}</span><Shaded text={own.content} label={capital(own.role)} {...props(i)} /></div>)}
      {marked && <AskAgain phrase={marked.phrase} clear={clear} taught={question ? () => handOver(question) : undefined} list={(where) => { location.hash = `#/data/${encodeURIComponent(where)}`; }} />}
    </>
  );
}

function Neighbour({ row, showText }: { row: Row; showText: boolean }) {
  return (
    <a class="neighbour" href={addressOf(row)}>
      <span class="place">{safe(placeOf(row))}</span>
      {showText && row.prompt !== undefined && <bdi>{safe(row.prompt.slice(0, 300))} → {safe((row.response ?? "").slice(0, 300))}</bdi>}
    </a>
  );
}

const HEIGHT = 44, PIECE = 100;
/** Pixels of the longest list; browsers end an element between 17 and 34 million. A longer one is scrolled in scale. */
const MOST_HEIGHT = 15_000_000;

/** All rows of the data: of any number, those near the window are there and no others. */
export function Data({ info, showText, filter }: { info: IndexInfo; showText: boolean; filter: string }) {
  const [facets, setFacets] = useState<Record<string, string>>({});
  const [sql, setSql] = useState(filter);
  const [typed, setTyped] = useState(filter);
  const [found, setFound] = useState<{ total: number; n_rows: number } | null>(null);
  const [pieces, setPieces] = useState<Map<number, Row[]>>(new Map());
  const [error, setError] = useState<unknown>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const asked = useRef(new Set<number>());
  const where = [sql && `(${sql})`, ...Object.entries(facets).filter(([, value]) => value).map(([, condition]) => condition)].filter(Boolean).join(" AND ");
  const current = useRef(where);

  const load = async (piece: number) => {
    if (asked.current.has(piece)) return;
    asked.current.add(piece);
    try {
      const page = await api.rows(where, piece * PIECE, PIECE);
      if (current.current !== where) return;
      setFound(page);
      setPieces((old) => new Map(old).set(piece, page.rows));
    } catch (failed) {
      asked.current.delete(piece);
      if (current.current === where) setError(failed);
    }
  };
  useEffect(() => {
    current.current = where;
    asked.current = new Set();
    setPieces(new Map()); setFound(null); setError(null);
    setView((old) => ({ ...old, top: 0 })); // the list is made anew
    void load(0);
  }, [where]);
  const total = found?.total ?? 0, whole = total * HEIGHT, height = Math.min(whole, MOST_HEIGHT);
  // Where the window begins in the whole list.
  const start = height < whole ? (view.top / (height - view.height)) * (whole - view.height) : view.top;
  const first = Math.max(0, Math.floor(start / HEIGHT) - 10), last = Math.min(total, Math.ceil((start + view.height) / HEIGHT) + 10);
  useEffect(() => {
    for (let piece = Math.floor(first / PIECE); total && piece <= Math.floor(Math.max(0, last - 1) / PIECE); piece++) void load(piece);
  }, [first, last, total]);
  const rows = Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i);
  return (
    <div class="query">
      <Title>{!found ? "The data" : many(found.n_rows, "row") + (found.n_rows === total ? "" : `, ${many(total, "turn")}`)}</Title>
      <form class="tools" onSubmit={(event) => { event.preventDefault(); setSql(typed.trim()); }}>
        {info.facets.filter((facet) => facet.values && facet.values.length > 1).map((facet) => (
          <select key={facet.column} aria-label={facet.name} value={facets[facet.column] ?? ""} onChange={(event) => setFacets({ ...facets, [facet.column]: event.currentTarget.value })}>
            <option value="">{facet.name}: all</option>
            {facet.values!.map(({ text, where, rows: n }) => <option key={where} value={where}>{`${safe(text).slice(0, 60)} (${n.toLocaleString("en")})`}</option>)}
          </select>
        ))}
        <input class="filter" aria-label="SQL condition" placeholder="SQL condition, as in line > 100" value={typed} maxLength={1500} onInput={(event) => setTyped(event.currentTarget.value)} />
        <button type="submit">Filter</button>
      </form>
      <IndexNotes info={info} />
      {error !== null && <Problem error={error} />}
      {!found && error === null && <Busy what="Reading the rows" />}
      {found && total === 0 && <p class="empty">No row meets this condition.</p>}
      {total > 0 && (
        <div class="list" tabIndex={0} role="list" aria-label="Rows of the data" onScroll={(event) => setView({ top: event.currentTarget.scrollTop, height: event.currentTarget.clientHeight })}>
          <div class="all" style={{ height: `${height}px` }}>
            {rows.map((number) => {
              const row = pieces.get(Math.floor(number / PIECE))?.[number % PIECE];
              return (
                <div class="line" role="listitem" aria-setsize={total} aria-posinset={number + 1} key={number} style={{ top: `${view.top + number * HEIGHT - start}px`, height: `${HEIGHT}px` }}>
                  {row ? <a href={addressOf(row)}><span class="place">{safe(placeOf(row))}{row.turn > 0 && `, turn ${row.turn + 1}`}</span> {showText && row.prompt !== undefined && <bdi>{safe(row.prompt.slice(0, 200))} → {safe((row.response ?? "").slice(0, 200))}</bdi>}</a> : <span class="quiet">…</span>}
                </div>
              );
            })}
          </div>
        </div>
      )}
    </div>
  );
}
