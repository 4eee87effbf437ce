// What is shown of a row's metadata where texts are hidden: the rule of `labels_of` (src/whence/results/labels.py).
import type { Json } from "./api";

export const LABEL_COLUMNS = ["label", "source"];
export const LONGEST_LABEL = 80;
/** Columns that some trainer reads (src/whence/data/columns.py); tests/serve/test_page_is_built.py compares the two. */
export const TRAINER_COLUMNS = [
  "answer", "audio", "audios", "chat_template_kwargs", "chosen", "completion", "completions", "context",
  "conversations", "documents", "functions", "history", "image", "images", "input", "instruction", "messages",
  "output", "parallel_tool_calls", "prompt", "prompts", "query", "question", "reasoning", "reasoning_content",
  "rejected", "response", "responses", "system", "system_prompt", "text", "thinking", "tools", "train", "video",
  "videos", "weight",
];

/** A name without its case, as `str.casefold` has it. */
const folded = (name: string) => name.trim().toUpperCase().toLowerCase();

/** The metadata; without texts: labels, sources, numbers and truth values, of columns that no trainer reads. */
export const metadataOf = (metadata: Record<string, Json>, showText: boolean): Record<string, Json> =>
  showText ? metadata : Object.fromEntries(Object.entries(metadata).filter(([name, value]) => isLabel(folded(name), value)));

function isLabel(name: string, value: Json) {
  if (typeof value === "string") return LABEL_COLUMNS.includes(name) && [...value].length <= LONGEST_LABEL;
  return (value === null || typeof value !== "object") && !TRAINER_COLUMNS.includes(name);
}
