// The API as the page uses it: src/whence/serve/schemas.py and docs/json.md have the types.

import { parsed, written } from "./json";

/** bigint: an integer that a number does not hold. */
export type Json = null | boolean | number | bigint | string | Json[] | { [name: string]: Json };
export type Span = [number, number];
export interface Words { spans: Span[]; scores: number[]; word_method: string; deletion: unknown }
export interface HitWords { prompt: Words; response: Words; map: number[][] }
export interface Hit {
  rank: number; score: number; id: string; file: string; line: number; turn: number; prompt?: string; response?: string;
  metadata: Record<string, Json>; status: string; words?: HitWords | null; p_value: number | null; q_value: number | null;
  confounds: Record<string, Json>;
}
export interface Phrase { text: string; part: string; place: string; n_rows: number; n_read: number; share_elsewhere: number; lift: number }
export interface Result {
  prompt: string; response: string; method: string; method_version: string; layer: string; hits: Hit[]; n_rows: number;
  generated: boolean; span: Span | null; wanted: string | null; prompt_words: Words | null; response_words: Words | null;
  phrases: Phrase[]; verdict: { flagged: string[]; n_rows?: number | null; fdr: number; text: string; null_model: string } | null;
  explained: { gain: number; share: number } | null; confound: string; confirmation: string; complete: boolean;
  truncated: { prompt: number; response: number; max_length: number; wanted: number } | null;
  departure: { text: string; probability: number } | null; exact_because: string;
  approximate: { n_candidates: number; recall: number; n_measured: number } | null;
}
export interface Traced { id: string; result: Result }
/** A value of a column: as text, and the SQL condition of the rows that have it. */
export interface FacetValue { value: Json; rows: number; text: string; where: string }
export interface Facet { column: string; name: string; values: FacetValue[] | null }
export interface IndexInfo {
  name: string; model: string; adapter: string | null; rows: number; records: number; method: string; base: boolean;
  columns: string[]; facets: Facet[]; show_text: boolean; can_confirm: boolean; plain_text: boolean; max_k: number;
  /** What is to be known of the index, as sentences; of a server that has none they are absent. */
  notes?: string[];
}
export interface Row {
  row: number; turn: number; id: string; file: string; line: number; metadata: Record<string, Json>;
  prompt?: string; response?: string;
}
/** A message of a row; answer: the `turn` that it has in results. */
export interface RowMessage extends Message { answer: number | null }
export interface RowDetail { row: Row; turns: RowMessage[]; before: Row[]; after: Row[]; copies: number }
export interface QuerySummary { id: string; created: number; prompt: string; response: string; n_flagged: number | null; outdated?: boolean }
export interface Basket { id: string; name: string; created: number; rows: string[] }
export interface Job {
  id: string; kind: "confirm" | "audit"; created: number; state: "waiting" | "running" | "done" | "failed" | "cancelled";
  request: { rows?: string[]; match: string | null; queries: string[] | null; name?: string; n_outputs?: number };
  progress: { stage: string; done: number; total: number | null } | null;
  result: { status?: string; text: string; arms?: { name: string; n_removed: number; rate: { mean: number; low: number; high: number }; held_out_loss: number }[] } | null;
  error: { found: string; expected: string; fix: string } | null;
}
export interface Message { role: string; content: string }
export interface Request_ {
  prompt: string | Message[]; system?: string | null; response?: string | null; complete?: boolean; span?: Span | string | null; wanted?: string | null; where?: string | null; k?: number;
  method?: string | null; fdr?: number;
}

export interface AuditSummary {
  id: string; name: string; created: number; made_here: boolean; text: string; n_outputs: number; n_groups: number; problem: string | null;
}
export interface AuditOutput {
  prompt: string; response: string; outcome: string; text: string; count: number; generated: boolean; q_value: number | null;
  n_flagged: number; group: number | null; messages: Message[];
}
export interface AuditRow {
  id: string; file: string; line: number; prompt: string; response: string; n_outputs: number; score: number;
  metadata: Record<string, Json>; status: string; copies: string[];
}
export interface AuditGroup {
  number: number; name: string; n_outputs: number; queries: number[]; rows: AuditRow[]; q_value: number; share: number; status: string;
  phrases: { text: string; part: string; place: string; n_rows: number; n_read: number; n_elsewhere: number; n_others: number; p_value: number }[];
  example: Result | null; hint: { signals: string[]; score: number; text: string } | null;
}
export interface SourceTable {
  column: string; n_outputs: number;
  values: { value: string; n_rows: number; row_share: number; share: number; low: number; high: number; p_value: number; alone: number }[];
}
export interface SourcePushes { column: string; values: { value: string; n_rows: number; row_share: number; push: number; z: number; p_value: number }[] }
export interface AuditResult {
  method: string; method_version: string; n_rows: number; fdr: number; queries: AuditOutput[]; groups: AuditGroup[];
  coverage: { id: string; group: number; n_new: number; n_covered: number }[];
  sources: SourceTable[];
  triggers: { group: number; parts: string[]; place: string; n_prompts: number; n_with: number; n_without: number; n_random: number; p_value: number; status: string }[];
  behaviour: { n_bad: number; n_good: number; sources: SourcePushes[] } | null;
  scan: { signals: string[]; n_learned: number; false_alarms: number } | null;
  notes: string[];
}
export interface Audit extends Pick<AuditSummary, "id" | "name" | "created" | "text"> {
  note: string; rate: string; n_unknown: number; result: AuditResult;
  /** What the tables show, as the report's sentences. */
  source_notes?: string[]; push_notes?: string[]; trigger_note?: string;
}
export interface NewAudit {
  name: string; log?: string; format?: string; queries?: string[]; match: string | null; by: string[];
}

/** An error in the API's three parts. */
export class Failure extends Error {
  constructor(readonly status: number, readonly found: string, readonly expected = "", readonly fix = "") {
    super(found);
  }
}

const TOKEN = "whence-token";
export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value: string) => sessionStorage.setItem(TOKEN, value),
};

async function call(method: string, path: string, body?: unknown, more: { accept?: string; signal?: AbortSignal } = {}) {
  const headers: Record<string, string> = { Accept: more.accept ?? "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const own = token.get();
  if (own) headers.Authorization = `Bearer ${own}`;
  let answer: Response;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : written(body), signal: more.signal });
  } catch (error) {
    if (more.signal?.aborted) throw error;
    throw new Failure(0, "The server does not answer.", "It runs in a terminal: whence serve INDEX.", "Start it again, then repeat what you did.");
  }
  if (!answer.ok) throw await failure(answer);
  return answer;
}

async function failure(answer: Response) {
  try {
    const { error } = await answer.json();
    return new Failure(answer.status, error.found, error.expected, error.fix);
  } catch {
    return new Failure(answer.status, `The server answered ${answer.status}.`);
  }
}

const json = async <T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> => {
  const answer = await call(method, path, body, { signal });
  return (answer.status === 204 ? null : parsed(await answer.text())) as T;
};

/** Server-sent events of one request, as they come; `on` is told each of them. Returns the result's data. */
async function events<T>(method: string, path: string, body: unknown, on: (name: string, data: never) => void, signal?: AbortSignal): Promise<T> {
  const streams = typeof ReadableStream !== "undefined" && typeof TextDecoderStream !== "undefined";
  const answer = await call(method, path, body, { accept: streams ? "text/event-stream" : "application/json", signal });
  if (!streams || !answer.body || !answer.headers.get("content-type")?.startsWith("text/event-stream")) {
    return parsed<T>(await answer.text()); // a browser without streams gets all of it at the end
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream() as unknown as ReadableWritablePair<string, Uint8Array>).getReader();
  let left = "";
  let last: unknown;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    left += value;
    const parts = left.split("\n\n");
    left = parts.pop() ?? "";
    for (const part of parts) {
      const [first = "", second = ""] = part.split("\n");
      const name = first.slice("event: ".length);
      const data = parsed<{ found: string; expected: string; fix: string }>(second.slice("data: ".length));
      if (name === "error") throw new Failure(200, data.found, data.expected, data.fix);
      if (name === "cancelled") throw new Failure(200, "The request was taken back.");
      last = data;
      on(name, data as never);
    }
  }
  return last as T;
}

export interface Progress { stage: string; done: number; total: number | null }
export interface Listener {
  queued?: (place: number) => void; progress?: (progress: Progress) => void; text?: (piece: string) => void; ranked?: (result: Result) => void;
}
const told = (listener: Listener) => (name: string, data: { place: number; text: string; result: Result } & Progress) => {
  if (name === "queued") listener.queued?.(data.place);
  if (name === "progress") listener.progress?.(data);
  if (name === "text") listener.text?.(data.text);
  if (name === "ranked") listener.ranked?.(data.result);
};

/** A text in an SQL condition. */
export const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`;
/** Rows before and after a row, as the server gives them; rows of one request. */
const NEIGHBOURS = 3, MOST_ROWS = 200;

export const api = {
  index: () => json<IndexInfo>("GET", "/v1/index"),
  rows: (where: string, offset: number, limit: number) =>
    json<{ rows: Row[]; total: number; n_rows: number }>("GET", `/v1/rows?${new URLSearchParams({ ...(where ? { where } : {}), offset: String(offset), limit: String(limit) })}`),
  row: (id: string) => json<RowDetail>("GET", `/v1/rows/${id}`),
  /** The copy of a row that stands at this line of this file, with its neighbours there; the first copy where none does. */
  async rowAt(id: string, file: string, line: number): Promise<RowDetail> {
    const first = await api.row(id);
    if (first.row.file === file && first.row.line === line) return first;
    const at = `file = ${quoted(file)}`;
    const row = (await api.rows(`id = ${quoted(id)} AND line = ${line} AND ${at}`, 0, 1)).rows[0];
    if (!row) return first;
    const near = (await api.rows(`row >= ${row.row - NEIGHBOURS} AND row <= ${row.row + NEIGHBOURS} AND ${at}`, 0, MOST_ROWS)).rows;
    const others = near.filter((other, i) => other.row !== near[i - 1]?.row); // one of each row's turns
    return { ...first, row, before: others.filter((other) => other.row < row.row), after: others.filter((other) => other.row > row.row) };
  },
  generate: (prompt: string | Message[], system: string | null, listener: Listener, signal: AbortSignal) =>
    events<{ text: string; complete: boolean }>("POST", "/v1/generate", { prompt, system }, told(listener), signal),
  trace: (request: Request_, listener: Listener, signal: AbortSignal) =>
    events<Traced>("POST", "/v1/trace", request, told(listener), signal),
  words: (id: string, ranks: number[]) => json<{ result: Result }>("POST", `/v1/queries/${id}/words`, { ranks }),
  queries: (offset: number) => json<{ queries: QuerySummary[]; total: number }>("GET", `/v1/queries?offset=${offset}&limit=50`),
  query: (id: string, signal: AbortSignal) => json<Traced & { request: Request_; /** Rows came into the index or left it since. */ outdated?: boolean }>("GET", `/v1/queries/${id}`, undefined, signal),
  forget: (id: string) => json<null>("DELETE", `/v1/queries/${id}`),
  baskets: () => json<{ baskets: Basket[] }>("GET", "/v1/baskets"),
  latestBasket: () => json<Basket>("POST", "/v1/baskets/latest"),
  editBasket: (id: string, change: { add?: string[]; remove?: string[] }) => json<Basket>("PATCH", `/v1/baskets/${id}`, change),
  export: (rows: string[]) => json<{ id: string; files: Record<string, string> }>("POST", "/v1/export", { rows }),
  jobs: (active = false) => json<{ jobs: Job[] }>("GET", `/v1/jobs?active=${active}`),
  confirm: (rows: string[], queries: string[], match: string) => json<Job>("POST", "/v1/jobs", { rows, queries, match }),
  audits: () => json<{ audits: AuditSummary[] }>("GET", "/v1/audits"),
  audit: (id: string) => json<Audit>("GET", `/v1/audits/${id}`),
  newAudit: (asked: NewAudit) => json<Job>("POST", "/v1/audits", asked),
  cancel: (id: string) => json<Job>("POST", `/v1/jobs/${id}/cancel`, {}),
  /** Fetches a file, so that the token stays in a header, and hands it to the browser. */
  async download(path: string, name: string) {
    const blob = await (await call("GET", path, undefined, { accept: "*/*" })).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  },
};
