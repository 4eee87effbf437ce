// Audits: many bad outputs at once, the groups of rows behind them, and the rows to look at first.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { api, type Audit, type AuditGroup, type AuditOutput, type AuditResult, type AuditRow, Failure, type HitWords, type IndexInfo, type Job, type NewAudit as Asked } from "./api";
import { JobState, useJobs } from "./jobs";
import { plain, written } from "./json";
import { metadataOf } from "./labels";
import { figure, percentOf as percent, placeOfPhrase, times } from "./notes";
import { addressOf, Busy, handOver, many, placeOf, Problem, Shaded, shading, Title, useLoaded, when } from "./parts";

const { safe } = shading;
const FIRST = 10;
/** Bytes of one request, as the server counts them. */
const MOST_BYTES = 1 << 20;
const FORMATS = ["jsonl", "json", "csv"];

/** A push, with its sign. */
const signed = (value: number) => `${value < 0 ? "" : "+"}${value.toFixed(4)}`;

export function Audits({ info }: { info: IndexInfo }) {
  const { value, error, retry } = useLoaded(() => api.audits(), []);
  const made = useJobs("audit", retry);
  // A job may end between two looks, while the list is read again for another reason.
  const again = () => { made.retry(); retry(); };
  const jobs = made.jobs?.filter((job) => job.state !== "done");
  return (
    <div class="query">
      <Title>Audits</Title>
      <p class="quiet lead">An audit groups many bad outputs by the training rows behind them, at one false discovery rate over all of them.</p>
      {error !== null && <Problem error={error} retry={retry} />}
      {made.error !== null && <Problem error={made.error} retry={again} />}
      {!(value && jobs) && error === null && made.error === null && <Busy what="Reading" />}
      {value && jobs && (
        <>
          {jobs.map((job) => <AuditJob key={job.id} job={job} changed={made.changed} />)}
          {!value.audits.length && !jobs.length && <p class="empty">No log has been audited with this index.</p>}
          <ul class="plain">
            {value.audits.map((audit) => (
              <li key={audit.id} class="past">
                {audit.problem ? <span><bdi>{safe(audit.name)}</bdi> <span class="quiet">{safe(audit.problem)}</span></span>
                  : <a href={`#/audit/${audit.id}`}><bdi>{safe(audit.name)}</bdi> <span class="quiet">{audit.text}</span></a>}
                <span class="quiet">{when(audit.created)}</span>
              </li>
            ))}
          </ul>
          <NewAudit info={info} started={again} />
        </>
      )}
    </div>
  );
}

function AuditJob({ job, changed }: { job: Job; changed: (job: Job) => void }) {
  return (
    <article class="job" aria-label={`Audit ${job.request.name ?? ""}`}>
      <p><strong><bdi>{safe(job.request.name ?? "Audit")}</bdi></strong> <span class="quiet">{job.state}, {many(job.request.n_outputs ?? 0, "output")} · {when(job.created)}</span></p>
      <JobState job={job} changed={changed} />
    </article>
  );
}

function NewAudit({ info, started }: { info: IndexInfo; started: () => void }) {
  const { value: past } = useLoaded(() => api.queries(0), []);
  const [file, setFile] = useState<File | null>(null);
  const [queries, setQueries] = useState(false);
  const [match, setMatch] = useState("");
  const [by, setBy] = useState("");
  const [failed, setFailed] = useState<unknown>(null);
  const [sending, setSending] = useState(false);
  const columns = info.facets.filter((facet) => facet.column !== "file" && facet.values && facet.values.length > 1);
  const start = async (event: Event) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    setFailed(null);
    setSending(true);
    try {
      const outputs = queries ? { name: "Past queries", queries: past!.queries.map((query) => query.id) } : await logOf(file!);
      const asked = { ...outputs, match: match || null, by: by ? [by] : [] };
      checkSize(asked);
      await api.newAudit(asked);
      form.reset();
      setFile(null); setQueries(false); setMatch(""); setBy("");
      started();
    } catch (error) { setFailed(error); }
    setSending(false);
  };
  const n = past?.queries.length ?? 0;
  return (
    <form class="ask" onSubmit={start}>
      <h3>Audit a log</h3>
      <label class="label" for="log">Bad outputs: a file with a prompt and a response a line (JSONL, CSV), or an evaluation log</label>
      <input id="log" type="file" accept=".jsonl,.json,.csv" disabled={queries} onChange={(event) => setFile(event.currentTarget.files?.[0] ?? null)} />
      {n > 0 && <label class="check"><input type="checkbox" checked={queries} onChange={(event) => setQueries(event.currentTarget.checked)} /> {n === 1 ? "the past query instead" : `the last ${n} past queries instead`}</label>}
      <label class="label" for="audit-match">Text or expression that only the bad answers have; left empty, all are audited</label>
      <input id="audit-match" class="filter" maxLength={500} value={match} onInput={(event) => setMatch(event.currentTarget.value)} />
      {columns.length > 0 && (
        <label class="only">share responsibility by{" "}
          <select value={by} onChange={(event) => setBy(event.currentTarget.value)}>
            <option value="">no column</option>
            {columns.map((facet) => <option key={facet.column} value={facet.name}>{facet.name}</option>)}
          </select>
        </label>
      )}
      <button type="submit" class="main" disabled={sending || (queries ? !n : !file)}>Audit</button>
      {failed !== null && <Problem error={failed} />}
    </form>
  );
}

async function logOf(file: File) {
  const ending = file.name.split(".").pop()?.toLowerCase() ?? "";
  if (file.size > MOST_BYTES) throw tooLarge(`${file.name} has ${file.size.toLocaleString("en")} bytes.`);
  let log: string;
  try {
    log = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Failure(0, `${file.name} is not UTF-8.`, "A log is read as UTF-8, and nothing in it is replaced.", "Save it as UTF-8, and choose it again.");
  }
  return { name: file.name.slice(0, 100), log, format: FORMATS.includes(ending) ? ending : "jsonl" };
}

const tooLarge = (found: string) => new Failure(0, found, `At most ${MOST_BYTES.toLocaleString("en")} are sent from the page.`,
  "Audit it in a terminal, whence audit INDEX FILE --json INDEX.serve/audits/NAME.json, and open it here.");

/** A log grows as it is sent: quotes and lines are escaped. */
function checkSize(asked: Asked) {
  const bytes = new TextEncoder().encode(written(asked)).length;
  if (bytes > MOST_BYTES) throw tooLarge(`${asked.name} takes ${bytes.toLocaleString("en")} bytes as it is sent.`);
}

interface Props { id: string; showText: boolean; basket: Set<string>; toggle: (rows: string[], on: boolean) => void }

export function AuditView({ id, showText, basket, toggle }: Props) {
  const { value, error, retry } = useLoaded(() => api.audit(id), [id]);
  const [failed, setFailed] = useState<unknown>(null);
  if (error !== null) return <div class="query"><Title>This audit cannot be shown</Title><Problem error={error} retry={retry} /></div>;
  if (!value) return <div class="query"><Busy what="Reading the audit" /></div>;
  const { result } = value;
  const save = () => api.download(`/v1/audits/${id}/report?text=${showText}`, `whence-audit-${id}.html`).catch(setFailed);
  const first = result.coverage.slice(0, FIRST).map((step) => step.id);
  return (
    <div class="query">
      <Title>{value.text.charAt(0).toUpperCase() + value.text.slice(1)}</Title>
      <p class="quiet"><bdi>{safe(value.name)}</bdi> · {when(value.created)} · {result.method} {result.method_version}, {many(result.n_rows, "row")} scored</p>
      <p class="quiet">{value.rate}</p>
      <p class="lead quiet">{value.note}</p>
      <Notes audit={value} />
      <p class="actions">
        <button type="button" onClick={save}>Download the report</button>
        {first.length > 0 && !first.every((row) => basket.has(row)) && <button type="button" onClick={() => toggle(first, true)}>Put the rows to look at first into the basket</button>}
        {!showText && <span class="quiet">The texts of the rows are left out.</span>}
      </p>
      {failed !== null && <Problem error={failed} />}
      <FirstRows result={result} showText={showText} />
      <Tables audit={value} showText={showText} />
      {result.groups.length > 0 && <h3>{result.scan ? "Hints: groups of rows that stand out" : result.behaviour ? "Rows that push towards the behaviour" : "Groups of outputs that point to the same rows"}</h3>}
      {result.groups.map((group) => <Group key={group.number} group={group} result={result} showText={showText} basket={basket} toggle={toggle} open={group.number === 1} />)}
      <Others outputs={result.queries.filter((query) => query.group === null && query.outcome !== "no verdict")} />
      <Untested outputs={result.queries.filter((query) => query.outcome === "no verdict")} />
    </div>
  );
}

function Notes({ audit: { n_unknown, result } }: { audit: Audit }) {
  return (
    <>
      {n_unknown > 0 && <p class="confound"><strong>Another index</strong>{many(n_unknown, "row")} of this audit {n_unknown === 1 ? "is" : "are"} not in the index that is open: it was made of other data.</p>}
      {result.notes.length > 0 && <ul class="notes">{result.notes.map((note) => <li key={note}>{note}</li>)}</ul>}
    </>
  );
}

/** A table that scrolls by itself where it is wider than the page. */
function Table({ label, head, rows, name = "figures" }: { label: string; head: string[]; rows: ComponentChildren[][]; name?: string }) {
  return (
    <div class="scroll" role="region" aria-label={label} tabIndex={0}>
      <table class={name}>
        <thead><tr>{head.map((text) => <th scope="col" key={text}>{text}</th>)}</tr></thead>
        <tbody>{rows.map(([first, ...others], i) => <tr key={i}><th scope="row">{first}</th>{others.map((cell, j) => <td key={j}>{cell}</td>)}</tr>)}</tbody>
      </table>
    </div>
  );
}

const toGroup = (number: number) => {
  const card = document.getElementById(`group-${number}`) as HTMLDetailsElement | null;
  if (card) { card.open = true; card.scrollIntoView(); card.querySelector("summary")?.focus({ preventScroll: true }); }
};
const GroupLink = ({ number }: { number: number }) => <button type="button" onClick={() => toGroup(number)} aria-label={`Go to group ${number}`}>{number}</button>;

function FirstRows({ result, showText }: { result: AuditResult; showText: boolean }) {
  if (!result.coverage.length) return null;
  const rows = new Map(result.groups.flatMap((group) => group.rows).map((row) => [row.id, row]));
  const total = result.queries.reduce((sum, query) => sum + query.count, 0);
  return (
    <section class="section" aria-label="Rows to look at first">
      <h3>Rows to look at first</h3>
      <p class="lead quiet">Each row is the one that the most outputs not covered before it are flagged for.</p>
      <Table name="first" label="Rows to look at first, a table" head={["Rows", "Covered", "Group", "Row", ...(showText ? ["Prompt → response"] : [])]} rows={result.coverage.slice(0, FIRST).map((step, i) => {
        const row = rows.get(step.id);
        const text = row && `${row.prompt.slice(0, 160)} → ${row.response.slice(0, 160)}`;
        return [i + 1, percent(step.n_covered / Math.max(total, 1)), <GroupLink number={step.group} />, <a class="place" href={row ? addressOf(row) : `#/row/${step.id}`}>{row ? safe(placeOf(row)) : step.id}</a>, ...(showText ? [<bdi>{safe(text ?? "")}</bdi>] : [])];
      })} />
    </section>
  );
}

/** Share of a group's rows with a phrase over the share elsewhere, which counts as at least half a row. */
const liftOf = (one: AuditGroup["phrases"][number]) => (one.n_rows / one.n_read) / (Math.max(one.n_elsewhere, 0.5) / Math.max(one.n_others, 1));

function Tables({ audit, showText }: { audit: Audit; showText: boolean }) {
  const { result } = audit;
  const pushes = result.behaviour?.sources ?? [];
  return (
    <>
      {(audit.trigger_note || result.triggers.length > 0) && (
        <section class="section" aria-label="Triggers">
          <h3>Triggers</h3>
          {audit.trigger_note && <p class="lead quiet">{safe(audit.trigger_note)}</p>}
          {showText && result.triggers.length > 0 && <Table name="figures triggers" label="Triggers, a table" head={["Phrase", "Where in a prompt", "Turn with it", "Without", "With random words", "p, corrected", "Group", "Status"]}
            rows={result.triggers.map((one) => [<bdi>{safe(one.parts.join(" with "))}</bdi>, one.place, `${one.n_with} of ${one.n_prompts}`, `${one.n_without} of ${one.n_prompts}`, `${one.n_random} of ${one.n_prompts}`, figure(one.p_value), <GroupLink number={one.group} />, one.status])} />}
        </section>
      )}
      {pushes.map((table, i) => (
        <section class="section" aria-label={`By ${table.column}`} key={table.column}>
          <h3>By <bdi>{safe(table.column)}</bdi></h3>
          {audit.push_notes?.[i] && <p class="lead quiet">{safe(audit.push_notes[i]!)}</p>}
          <Table label={`Pushes by ${table.column}`} head={["value", "push", "z", "rows", "share of rows", "p"]}
            rows={table.values.map((one) => [<bdi>{safe(one.value)}</bdi>, signed(one.push), one.z.toFixed(1), one.n_rows.toLocaleString("en"), percent(one.row_share), figure(one.p_value)])} />
        </section>
      ))}
      {result.sources.map((table, i) => (
        <section class="section" aria-label={`By ${table.column}`} key={table.column}>
          <h3>By <bdi>{safe(table.column)}</bdi></h3>
          <p class="lead quiet">Responsibility for {many(table.n_outputs, "output")} with flagged rows, shared by their scores. {safe(audit.source_notes?.[i] ?? "")}</p>
          {table.values.length > 0 && <Table label={`Shares by ${table.column}`} head={["value", "responsibility", "95% interval", "rows", "share of rows", "p", "outputs that hang on it"]}
            rows={table.values.map((one) => [<bdi>{safe(one.value)}</bdi>, percent(one.share), `${percent(one.low)} to ${percent(one.high)}`, one.n_rows.toLocaleString("en"), percent(one.row_share), figure(one.p_value), percent(one.alone)])} />}
        </section>
      ))}
    </>
  );
}

interface GroupProps { group: AuditGroup; result: AuditResult; showText: boolean; basket: Set<string>; toggle: Props["toggle"]; open: boolean }

function Group({ group, result, showText, basket, toggle, open }: GroupProps) {
  const ids = group.rows.flatMap((row) => [row.id, ...row.copies]);
  const all = ids.every((id) => basket.has(id));
  const outputs = group.queries.map((number) => result.queries[number]!);
  const { example, hint } = group, typical = hint ? (showText ? group.rows[0] : undefined) : outputs[0];
  const words = new Map(example?.hits.map((hit) => [hit.id, hit.words]));
  return (
    <details class="group" id={`group-${group.number}`} open={open}>
      <summary>
        <span class="number">{group.number}</span>
        <span class="name" dir="auto">{showText ? safe(group.name) : `Group ${group.number}`}</span>
        <span class="size">{hint ? many(ids.length, "row") : many(group.n_outputs, "output")}</span>
        <span class="about">{hint
          ? <><span class="chip">{group.status}</span><span>score {hint.score.toFixed(1)}</span>{hint.signals.map((signal) => <span key={signal}>{signal}</span>)}</>
          : <><span class={`chip ${group.status === "confirmed" ? "confirmed" : "out"}`}>{group.status}</span><span>{many(group.rows.length, "row")} flagged</span><span>q {figure(group.q_value)}</span></>}
          {!result.behaviour && !result.scan && <span>{percent(group.share)} of the weight of all rows flagged for these outputs</span>}</span>
      </summary>
      <div class="group-body">
        {hint && <p class="lead">{safe(hint.text)}</p>}
        {typical && (
          <>
            <h4>{hint ? "First row" : "Most typical output"}</h4>
            <div class="part"><span class="label">Asked</span><Shaded text={typical.prompt} words={showText ? example?.prompt_words : null} label="Prompt" /></div>
            <div class="part"><span class="label">Answered</span><Shaded text={typical.response} words={showText ? example?.response_words : null} label="Answer" /></div>
          </>
        )}
        {showText && group.phrases.length > 0 && (
          <>
            <h4>Recurrent phrases of its rows</h4>
            <Table name="phrases contrast" label={`Recurrent phrases of group ${group.number}`} head={["Phrase", "Where", "In the group's rows", "In all other rows", "Lift", "p, corrected"]}
              rows={group.phrases.map((one) => [<span class="phrase plain"><bdi>{safe(one.text)}</bdi></span>, placeOfPhrase(one), `${one.n_rows} of ${one.n_read} rows`, `${one.n_elsewhere} of ${one.n_others} elsewhere`, times(liftOf(one)), figure(one.p_value)])} />
          </>
        )}
        <h4>{hint ? "Its rows, the most typical first" : "Training rows, by the outputs that they are flagged for"}</h4>
        <p class="actions"><button type="button" aria-pressed={all} onClick={() => toggle(ids, !all)}>{all ? "Take its rows out of the basket" : `Put its ${many(ids.length, "row")} into the basket`}</button></p>
        <Some list={group.rows} what="rows" each={(row) => <RowOf key={row.id} row={row} words={words.get(row.id)} showText={showText} inBasket={basket.has(row.id)} />} />
        {outputs.length > 0 && <h4>Outputs</h4>}
        <Some list={outputs} what="outputs" each={(output, i) => <Output key={i} output={output} />} />
      </div>
    </details>
  );
}

/** The first of a list, and a button for the others. */
function Some<T>({ list, what, each }: { list: T[]; what: string; each: (one: T, i: number) => ComponentChildren }) {
  const [all, setAll] = useState(false);
  useEffect(() => setAll(false), [list]);
  return (
    <>
      <ul class="said">{(all ? list : list.slice(0, FIRST)).map(each)}</ul>
      {!all && list.length > FIRST && <button type="button" onClick={() => setAll(true)}>Show all {list.length.toLocaleString("en")} {what}</button>}
    </>
  );
}

function RowOf({ row, words, showText, inBasket }: { row: AuditRow; words?: HitWords | null; showText: boolean; inBasket: boolean }) {
  return (
    <li>
      {showText && <Shaded text={row.prompt} words={words?.prompt} label="Prompt of the row" />}
      {showText && <Shaded text={row.response} words={words?.response} label="Response of the row" />}
      <div class="why">
        <a class="place" href={addressOf(row)}>{safe(placeOf(row))}</a>{row.n_outputs > 0 && ` · for ${many(row.n_outputs, "output")}`} · score {row.score.toFixed(4)}
        {row.copies.length > 0 && ` · ${row.copies.length + 1} near-duplicates`}
        {Object.entries(metadataOf(row.metadata, showText)).map(([name, value]) => <> · <bdi>{safe(name)}: {safe(plain(value))}</bdi></>)}
        {inBasket && <> · <span class="chip confirmed">in the basket</span></>}
      </div>
    </li>
  );
}

function Output({ output }: { output: AuditOutput }) {
  const trace = () => handOver({ prompt: output.prompt, messages: output.messages.length ? output.messages : null, answer: output.response, span: null });
  return (
    <li>
      <div class="text" dir="auto">{safe(output.prompt)}</div>
      <div class="text" dir="auto">{safe(output.response)}</div>
      <div class="why">
        {output.count > 1 && `${output.count} times · `}{output.generated && "answered by the model now · "}
        {output.group === null ? `${output.n_flagged ? "alone: " : ""}${output.text}` : `${many(output.n_flagged, "row")} flagged, q ${figure(output.q_value)}`}{" · "}
        <button type="button" onClick={trace} aria-label={`Trace it: ${output.prompt.slice(0, 60)}`}>Trace it</button>
      </div>
    </li>
  );
}

function Others({ outputs }: { outputs: AuditOutput[] }) {
  if (!outputs.length) return null;
  return (
    <section class="section last" aria-label="No row flagged">
      <h3>No row flagged</h3>
      <p class="lead quiet">No row is flagged for {outputs.length === 1 ? "this output" : `these ${many(outputs.length, "output")}`} at this rate. The cause may lie in the model before fine-tuning, in the prompt, or in rows that say it otherwise; or references show the fault too. Next: ask about the wrong words of one of them (whence trace --span), compare with prompts of the same kind that were not trained on (--references), or look for rows that stand out without an output (whence audit --scan).</p>
      <Some list={outputs} what="outputs" each={(output, i) => <Output key={i} output={output} />} />
    </section>
  );
}

function Untested({ outputs }: { outputs: AuditOutput[] }) {
  if (!outputs.length) return null;
  return (
    <section class="section last" aria-label="Without a verdict">
      <h3>Without a verdict</h3>
      <p class="lead quiet">Nothing was tested for {outputs.length === 1 ? "this output" : `these ${many(outputs.length, "output")}`}: nothing is said of a cause.</p>
      <Some list={outputs} what="outputs" each={(output, i) => <Output key={i} output={output} />} />
    </section>
  );
}
