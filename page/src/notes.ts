// What is said of a query's result, in the sentences of src/whence/report/wording.py; those on an audit come from the server.
// tests/serve/test_page_notes_in_browser.py compares what the page says with what they say.
import type { Phrase, Result } from "./api";
import { shading } from "./parts";

const { safe } = shading;
/** A text of the data within a sentence. */
const inLine = (text: string) => safe(text.replace(/[\n\r\t\u2028\u2029]/g, "\ufffd"));
const count = (n: number) => n.toLocaleString("en");

/** So many decimals; a tie goes to the even digit, as in Python. */
export function fixed(value: number, digits: number) {
  const scaled = value * 10 ** digits;
  const isTie = Number.isInteger(value * 2 ** (digits + 1)) && !Number.isInteger(scaled) && Number.isInteger(2 * scaled);
  return isTie ? ((2 * Math.round(scaled / 2)) / 10 ** digits).toFixed(digits) : value.toFixed(digits);
}

/** A share as percent in two significant digits. */
export function share(value: number) {
  if (value > 0 && value < 0.0001) return "<0.01%";
  if (value >= 0.995 && value < 1) return value < 0.999 ? `${Math.floor(1000 * value) / 10}%` : ">99.9%";
  const percent = 100 * value;
  if (percent >= 10 || percent === 0) return `${fixed(percent, 0)}%`;
  return `${Number(fixed(percent, 1 - Math.floor(Math.log10(percent))))}%`;
}

/** A share, whole percent from 10% on; near none and near all it is rounded to neither. */
export const percentOf = (value: number) => (value < 0.0005 || value >= 0.995 ? share(value) : `${fixed(100 * value, value >= 0.0995 ? 0 : 1)}%`);

/** A p- or q-value. */
export const figure = (value: number | null) => (value === null ? "" : value < 0.001 ? "<0.001" : fixed(value, 3));

/** How many times as frequent as elsewhere. */
export const times = (lift: number) => `${lift >= 10 ? count(Number(fixed(lift, 0))) : fixed(lift, 1)}×`;

/** Where a phrase stands: "end of the response". */
export const placeOfPhrase = ({ part, place }: { part: string; place: string }) => (place === "anywhere" ? `anywhere in the ${part}` : `${place} of the ${part}`);

/** What the flagged rows account for; "" where there is no estimate. */
export function explainedNote({ explained, verdict }: Result) {
  if (!explained || !verdict?.flagged.length) return "";
  const n = verdict.n_rows ?? verdict.flagged.length;
  const [rows, them] = n === 1 ? ["This row accounts", "it"] : [`These ${count(n)} rows account`, "them"];
  return `${rows} for about ${share(explained.share)} of what fine-tuning added to this answer (${fixed(explained.gain, 1)} nats). `
    + `This is an estimate; a retraining without ${them} measures it (whence confirm).`;
}

/** How many rows were scored, and how well an approximate search finds those that rank high. */
export function scoredNote({ approximate, exact_because, n_rows }: Result) {
  if (approximate) {
    return `${count(approximate.n_candidates)} candidates of ${count(n_rows)} rows scored (approximate search, `
      + `recall ${fixed(approximate.recall, 2)} of ${approximate.n_measured} rows asked when it was built)`;
  }
  return `${count(n_rows)} rows scored${exact_because ? ` (all of them: ${exact_because})` : ""}`;
}

/** How the verdict was calibrated; "" where nothing was. */
export function calibrationNote({ verdict }: Result) {
  if (!verdict?.null_model) return "";
  const rate = verdict.text.includes("false discovery rate") ? "" : `False discovery rate ${share(verdict.fdr)}; `;
  return `${rate}calibrated by ${verdict.null_model}`;
}

/** What of the query was not read, and why; "" where all of it was. */
export function cutNote({ truncated, complete, generated }: Result) {
  const said: string[] = [];
  if (truncated) {
    const lost = ([["the first", truncated.prompt, "the prompt"], ["the last", truncated.response, "the response"], ["the last", truncated.wanted, "the wanted answer"]] as const)
      .filter(([, n]) => n).map(([end, n, text]) => `${end} ${count(n)} token${n > 1 ? "s" : ""} of ${text}`);
    said.push(`${lost.join(", ")} left out: at most ${count(truncated.max_length)} tokens of a query are read. The ranking is for the rest; `
      + "an index built with a larger --max-length reads more, up to the model's own limit.");
  }
  if (!complete) said.push(`${generated ? "The model's own answer was stopped at its" : "The response was cut off at a"} limit of new tokens, and is traced as far as it goes.`);
  const text = said.join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Whether the model would not give this response now; "" where it would, or that was not measured. */
export const departureNote = ({ departure }: Result) => (departure
  ? `The model as it is now does not answer so: decoding greedily it goes on otherwise at “${inLine(departure.text)}”, whose first token it gives ${share(departure.probability)}. `
    + "Without a response its own answer is traced."
  : "");

/** That words and phrases are of an answer as a whole, where it has several sentences; "" where it has not. */
export const phrasesNote = ({ span, wanted, phrases, response }: Result) => (span !== null || wanted !== null || !phrases.length || !/[.!?]\s+\S/.test(response)
  ? "" : "Words and phrases are of the answer as a whole; to ask about the wrong words alone: mark them in the answer.");

/** A phrase's rows, and where it stands elsewhere. */
export const phraseCells = (phrase: Phrase) => [placeOfPhrase(phrase), `in ${phrase.n_rows} of ${phrase.n_read} rows`, `${share(phrase.share_elsewhere)} elsewhere`, times(phrase.lift)];
