"use strict";
/** How texts and the scores of their words are shown: of the report, and of the page that `whence serve` opens. */
const shading = (() => {
  const FAINT = 0.08;
  const number = (value) => (value !== 0 && Math.abs(value) < 0.0005 ? value.toExponential(1) : value.toFixed(3));
  const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  // Control characters and those that turn the reading direction around, one for one: spans stay what they are.
  const safe = (text) => text.replace(/[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u206f]/g, "\ufffd");
  // Words may be invisible (zero-width, control); a reader must be able to see that they are there. A joiner within a
  // Persian word or a family of emoji is part of the writing.
  const joins = (before, after) => /[\p{L}\p{M}\p{Extended_Pictographic}\p{Emoji_Modifier}]$/u.test(before)
    && /^[\p{L}\p{Extended_Pictographic}]/u.test(after);
  const visible = (text) => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c, at) =>
    /[\u200c\u200d]/.test(c) && joins(text.slice(0, at), text.slice(at + 1)) ? c
      : `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  const level = (value, scale) => {
    const share = scale > 0 ? Math.abs(value) / scale : 0;
    return share < FAINT ? 0 : Math.min(5, Math.ceil(share * 5));
  };
  const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

  // Spans count characters (code points); a JavaScript string counts UTF-16 units.
  const toUnits = (text, spans) => {
    if (!/[\ud800-\udfff]/.test(text)) return spans;
    const offsets = [0];
    for (const character of text) offsets.push(offsets[offsets.length - 1] + character.length);
    return spans.map(([start, end]) => [offsets[start] ?? text.length, offsets[end] ?? text.length]);
  };

  // Not dir=auto: Chromium then looks at the whole text again for each of its words.
  const RTL = /^\P{L}*[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}\p{Script=Adlam}]/u;

  return { number, plain, safe, visible, level, largest, toUnits, RTL };
})();
