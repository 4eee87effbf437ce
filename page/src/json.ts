// JSON whose integers stay what they are: a number of JavaScript holds them up to 2^53, beyond that they are `bigint`.
/** An integer, as an element or a value, that a number may not hold. It is asked of the text first: few answers have one. */
const MAY_BE_LARGE = /[:[,]\s*-?\d{16,}(?![\d.eE])/;
const STRING_OR_NUMBER = /"[^"\\]*(?:\\[^][^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
/** What stands for a large integer while the text is read; no text of the data begins so. */
const MARK = `integer ${crypto.getRandomValues(new Uint32Array(4)).join(" ")} `;

export function parsed<T>(text: string): T {
  if (!MAY_BE_LARGE.test(text)) return JSON.parse(text) as T;
  const marked = text.replace(STRING_OR_NUMBER, (token) => (/^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"${MARK}${token}"` : token));
  return JSON.parse(marked, (_, value) => (typeof value === "string" && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value)) as T;
}

const LARGE = new RegExp(`"${MARK}(-?\\d+)"`, "g");
export const written = (value: unknown): string =>
  JSON.stringify(value, (_, own) => (typeof own === "bigint" ? MARK + own : own)).replace(LARGE, "$1");

/** A value of a row's metadata as it is shown: a text as it is, everything else as JSON. */
export const plain = (value: unknown): string => (typeof value === "string" ? value : value === undefined ? "" : written(value));
