"use strict";
(() => {
  // Texts longer than FOLD characters (UTF-16 units) are folded to their start and the neighbourhood of their strongest word.
  const FOLD = 1200, HEAD = 400, OPEN_ROWS = 10, OPEN_ALL_UP_TO = 20, TABLE_ROWS = 50, SCALE_ROWS = 10, STEPS = 5, GONE = 0.1;
  const data = JSON.parse(document.getElementById("data").textContent);

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  };
  const { number, plain, safe, visible, level, largest, toUnits, RTL } = shading;

  class Text {
    constructor(element, text, { words = null, scale = null, span = null, kind, label, owner }) {
      Object.assign(this, { element, text, words, kind, label, owner });
      this.shade = "scores";
      this.spans = words ? toUnits(text, words.spans) : [];
      this.scale = scale ?? (words ? largest(words.scores) : 0);
      this.span = span && toUnits(text, [span])[0];
      this.elements = [];
      this.lit = [];
      this.whole = text.length <= FOLD;
      this.decorated = false;
      texts.set(element, this);
      element.dir = RTL.test(text.slice(0, FOLD)) ? "rtl" : "ltr";
      if (words) {
        element.setAttribute("role", "group");
        element.setAttribute("aria-label", `${label}, word by word; arrow keys move, Enter holds a word`);
      }
      if (!this.whole) {
        this.more = make("button", { type: "button", class: "more" }, `Show all ${text.length.toLocaleString("en")} characters`);
        this.more.addEventListener("click", () => this.unfold());
        element.after(this.more);
        element.parentElement.classList.contains("part") && this.more.style.setProperty("grid-column", "2");
      }
      this.fill(false);
    }

    windows() {
      const length = this.text.length;
      if (this.whole) return [[0, length]];
      let best = -1;
      this.spans.forEach((_, i) => { if (best < 0 || this.words.scores[i] > this.words.scores[best]) best = i; });
      if (this.span) return this.around(this.span[0]);
      return best < 0 || this.spans[best][1] <= FOLD ? [[0, FOLD]] : this.around(this.spans[best][0]);
    }

    around(centre) {
      const start = Math.max(0, centre - HEAD), end = Math.min(this.text.length, centre + HEAD);
      return start <= HEAD ? [[0, Math.max(end, FOLD)]] : [[0, HEAD], [start, end]];
    }

    fill(decorate) {
      const out = document.createDocumentFragment();
      this.elements = [];
      this.decorated = decorate;
      let seen = 0;
      for (const [start, end] of this.windows()) {
        if (start > seen) out.append(this.gap(start - seen));
        let at = start;
        if (decorate) {
          this.spans.forEach(([from, to], i) => {
            if (from < at || to > end || to <= from) return;
            this.between(out, at, from);
            out.append(this.word(i, from, to));
            at = to;
          });
        }
        this.between(out, at, end);
        seen = end;
      }
      if (seen < this.text.length) out.append(this.gap(this.text.length - seen));
      this.element.replaceChildren(out);
      const first = this.elements.find(Boolean);
      if (first) first.tabIndex = 0;
    }

    gap(count) {
      return make("span", { class: "gap" }, ` … ${count.toLocaleString("en")} characters … `);
    }

    between(out, from, to) {
      const [start, end] = this.span ? this.span.map((edge) => Math.min(Math.max(edge, from), to)) : [to, to];
      const part = (a, b) => safe(this.text.slice(a, b));
      if (from < start) out.append(part(from, start));
      if (start < end) out.append(make("span", { class: "asked" }, part(start, end)));
      if (end < to) out.append(part(end, to));
    }

    word(i, from, to) {
      const hold = this.shade === "hold", score = hold ? this.held[i] : this.words.scores[i];
      const strength = level(score, hold ? 1 : this.scale);
      const element = document.createElement("span");
      element.className = "w" + (strength ? ` ${score < 0 ? "n" : "w"}${strength}` : "");
      if (this.span && from < this.span[1] && to > this.span[0]) element.className += " asked";
      element.textContent = safe(this.text.slice(from, to));
      element.setAttribute("role", "button");
      const said = hold ? `${Math.round(100 * score)}%` : number(score);
      element.setAttribute("aria-label", `${visible(this.text.slice(from, to))}, ${said}`);
      element.tabIndex = -1;
      element.index = i;
      this.elements[i] = element;
      return element;
    }

    decorate() {
      if (this.words && !this.decorated) this.fill(true);
    }

    /** The share of the score that still stood when the word was taken away; 0 for a word that was not. */
    get held() {
      if (!this.holding) {
        this.holding = this.spans.map(() => 0);
        const { words = [], left = [] } = this.words.deletion ?? {};
        let standing = 1; // the score may increase again with the next word
        words.forEach((own, k) => {
          for (const i of own) this.holding[i] = standing;
          standing = Math.max(0, Math.min(standing, left[k]));
        });
      }
      return this.holding;
    }

    shadeBy(shade) {
      if (!this.words || this.shade === shade) return;
      this.shade = shade;
      if (this.decorated) this.fill(true);
    }

    unfold() {
      if (this.whole) return;
      const focused = document.activeElement === this.more;
      this.whole = true;
      this.more.remove();
      this.fill(this.decorated);
      if (focused) (this.elements.find(Boolean) ?? this.element.closest("details")?.querySelector("summary"))?.focus();
    }

    at(i) {
      return visible(this.text.slice(...this.spans[i]));
    }

    paint(values, scale) {
      this.element.classList.add("linking");
      values.forEach((value, j) => {
        const strength = level(value, scale);
        if (!strength || !this.elements[j]) return;
        const name = `${value < 0 ? "m" : "l"}${strength}`;
        this.elements[j].classList.add(name);
        this.lit.push([this.elements[j], name]);
      });
      painted.add(this);
    }

    wash() {
      for (const [element, name] of this.lit) element.classList.remove(name);
      this.lit = [];
      this.element.classList.remove("linking");
      painted.delete(this);
    }
  }

  class Row {
    constructor(query, hit, open) {
      Object.assign(this, { query, hit, built: false, near: false, parts: [] });
      this.out = query.flagged.has(hit.id);
      this.place = hit.file ? `${hit.file}:${hit.line}` : "";
      this.details = make("details", {}, this.summary());
      this.element = make("div", { class: "row shut", role: "listitem" }, this.details);
      this.element.row = this;
      this.details.addEventListener("toggle", (event) => event.target === this.details && this.toggled());
      if (open) { this.build(); this.details.open = true; }
    }

    summary() {
      const { hit } = this;
      const share = this.query.top > 0 ? Math.max(0, hit.score) / this.query.top : 0;
      const filled = make("i");
      filled.style.width = `${100 * Math.min(1, share)}%`;
      const facts = make("span", { class: "facts" },
        this.out ? make("span", { class: "chip out" }, "flagged") : null,
        make("span", { class: hit.status === "confirmed" ? "chip confirmed" : "chip" }, hit.status),
        // q alone decides what is flagged; the row's own p, far smaller where the answer is ordinary, is in the JSON.
        hit.q_value === null ? null : make("span", { class: "quiet", title: "q-value: the false discovery rate at which the row would be flagged" },
          `q ${Number(hit.q_value.toPrecision(2))}`),
        make("bdi", { class: "place" }, safe(this.place || hit.id)),
        hit.turn ? make("span", { class: "quiet" }, `turn ${hit.turn + 1}`) : null);
      const line = (text) => safe(text.slice(0, 160)).replace(/\s+/g, " ");
      const snippet = hit.prompt === undefined ? null
        : make("span", { class: "snippet", dir: "auto" }, `${line(hit.prompt)} → ${line(hit.response)}`);
      return make("summary", {},
        make("span", { class: "rank" }, make("span", { class: "hidden" }, "Rank "), String(hit.rank)),
        make("span", { class: "score", title: "score" }, make("span", { class: "hidden" }, "score "), hit.score.toFixed(4),
          make("span", { class: "bar", "aria-hidden": "true" }, filled)),
        facts, snippet);
    }

    build() {
      if (this.built) return;
      this.built = true;
      const { hit } = this, body = make("div", { class: "body" });
      this.details.append(body);
      if (hit.prompt !== undefined) {
        for (const kind of ["prompt", "response"]) {
          const element = make("div", { class: "text" });
          const name = kind === "prompt" ? "Prompt" : "Response";
          body.append(make("div", { class: "part" }, make("span", { class: "label" }, name), element));
          const words = hit.words?.[kind] ?? null;
          const text = new Text(element, hit[kind], { words, scale: this.query.scales[kind], kind, label: `${name} of row ${hit.rank}`, owner: this });
          text.shadeBy(this.query.shade);
          this.parts.push(text);
        }
      }
      const steps = this.parts.filter((part) => part.words?.deletion).map((part) => this.without(part));
      if (steps.length) body.append(make("div", { class: "part" }, make("span", { class: "label" }, "Score without these words"), make("div", { class: "deletions" }, ...steps)));
      const chips = (label, title, pairs) => pairs.length && body.append(make("div", { class: "part" },
        make("span", { class: "label" }, label),
        make("ul", { class: "chips", "aria-label": title }, ...pairs.map(([name, value]) => make("li", { class: "chip" },
          make("bdi", {}, safe(name.replaceAll("_", " "))), " ", make("b", {}, make("bdi", {}, safe(plain(value)))))))));
      chips("Row", "Id and metadata", [...(this.place ? [["id", hit.id]] : []), ...Object.entries(hit.metadata)]);
      chips("Confounds", "What else could explain the rank", Object.entries(hit.confounds));
      if (hit.words) body.append(wordTable(() => this.parts, `Words of row ${hit.rank}, strongest first`));
    }

    /** Response without “Peru”: 62% of the score left, and “Oslo”: 20% */
    without(part) {
      const { words, left } = part.words.deletion, line = make("p", {}, `${part.kind === "prompt" ? "Prompt" : "Response"} without `);
      let shown = 1; // as long as the score falls
      while (shown < Math.min(STEPS, left.length) && left[shown - 1] >= GONE && left[shown] < left[shown - 1]) shown++;
      for (let k = 0; k < shown; k++) {
        const gone = words[k].map((i) => part.at(i)).join(" ");
        const rest = `: ${Math.round(100 * left[k])}%${k ? "" : " of the score left"}`;
        line.append(k ? ", and " : "", make("b", {}, make("bdi", {}, `“${gone.length > 60 ? `${gone.slice(0, 60)}…` : gone}”`)), rest);
      }
      return line;
    }

    toggled() {
      this.element.classList.toggle("shut", !this.details.open);
      if (!this.details.open) return;
      this.build();
      if (this.near) this.approach();
    }

    approach() {
      this.near = true;
      if (!this.details.open) return;
      for (const part of this.parts) part.decorate();
      if (current) relight(this);
    }

    get text() {
      const { hit } = this;
      this.haystack ??= [hit.prompt, hit.response, hit.id, this.place, hit.status, ...Object.entries(hit.metadata).flat().map(plain)]
        .join("\n").toLowerCase();
      return this.haystack;
    }
  }

  class Query {
    constructor(section, content, index) {
      Object.assign(this, { section, content, index, rows: [], links: [] });
      this.flagged = new Set(content.verdict?.flagged ?? []);
      this.top = largest(content.hits.map((hit) => hit.score));
      // One scale for all rows, or the best word of an unrelated row would look as strong as that of the first; a median,
      // so that one odd row does not pale the rest.
      this.scales = {};
      for (const kind of ["prompt", "response"]) {
        const first = content.hits.filter((hit) => hit.words).slice(0, SCALE_ROWS).map((hit) => largest(hit.words[kind].scores));
        this.scales[kind] = first.sort((a, b) => a - b)[first.length >> 1] ?? 0;
      }
      this.shade = "scores";
      this.mapped = content.hits.some((hit) => hit.words?.map.length);
      this.list = section.querySelector(".rows");
      this.readout = section.querySelector(".readout");
      this.hint = this.mapped ? "Point at a word, tap it, or tab to it and use the arrow keys, to see what it is linked to." : "";
      this.readout.textContent = this.hint;
      this.readout.hidden = !section.querySelector(".legend");
      this.asked = new Text(section.querySelector(".asked-text"), content.prompt,
        { words: content.prompt_words, kind: "asked", label: "Prompt asked", owner: this });
      this.answer = new Text(section.querySelector(".answer"), content.response,
        { words: content.response_words, span: content.span, kind: "answer", label: "Answer", owner: this });
      if (content.wanted !== null) new Text(section.querySelector(".wanted"), content.wanted, { kind: "wanted", label: "Wanted", owner: this });
      for (const part of [this.asked, this.answer]) part.decorate();
      if (content.response_words || content.prompt_words) {
        section.querySelector(".query-table")
          ?.append(wordTable(() => [this.asked, this.answer], "Words of the query, strongest first"));
      }
      const shades = section.querySelector(".shades");
      shades?.addEventListener("change", (event) => {
        this.shade = event.target.value;
        hold(null);
        dark();
        for (const row of this.rows) for (const part of row.parts) part.shadeBy(this.shade);
      });
      if (shades) shades.hidden = false;
      for (const button of section.querySelectorAll(".phrase")) {
        button.addEventListener("click", () => { this.search.value = button.dataset.filter; this.filter(); this.search.focus(); });
      }
    }

    build() {
      if (this.rows.length || !this.list) return;
      const { hits } = this.content, one = (selector) => this.section.querySelector(selector);
      const many = hits.length > OPEN_ALL_UP_TO, open = many ? OPEN_ROWS : hits.length;
      this.list.classList.toggle("many", many);
      this.rows = hits.map((hit, i) => new Row(this, hit, i < open));
      this.search = one(".filter");
      this.only = one(".flagged-only");
      this.count = one(".count");
      this.empty = make("p", { class: "empty", hidden: "" }, "No row matches.");
      this.list.replaceChildren(...this.rows.map((row) => row.element));
      this.list.after(this.empty);
      one(".tools").hidden = false;
      this.search.addEventListener("input", () => this.filter());
      this.only?.addEventListener("change", () => this.filter());
      one(".download").addEventListener("click", () => this.download());
      const all = one(".toggle-all");
      all.addEventListener("click", () => {
        const opening = this.rows.some((row) => !row.element.hidden && !row.details.open);
        for (const row of this.rows) if (!row.element.hidden) row.details.open = opening;
        all.textContent = opening ? "Close all" : "Open all";
      });
      all.textContent = open === hits.length ? "Close all" : "Open all";
      this.curve(one(".curve"));
      this.filter();
      for (const row of this.rows) if (many) nearness.observe(row.element); else row.approach();
    }

    /** The scores by rank: whether the first rows stand apart from the rest is a shape, not a number. */
    curve(place) {
      const { hits } = this.content, low = Math.min(0, ...hits.map((hit) => hit.score));
      if (hits.length < 4) return;
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", `0 0 ${Math.max(hits.length, 60)} 40`);
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", `Scores by rank, from ${hits[0].score.toFixed(3)} down to ${hits[hits.length - 1].score.toFixed(3)}`);
      this.bars = hits.map((hit, i) => {
        const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        const height = this.top - low > 0 ? Math.max(1, (40 * (hit.score - low)) / (this.top - low)) : 1;
        for (const [name, value] of Object.entries({ x: i + 0.1, width: 0.8, y: 40 - height, height })) bar.setAttribute(name, value);
        if (this.flagged.has(hit.id)) bar.classList.add("out");
        svg.append(bar);
        return bar;
      });
      place.append(svg);
    }

    filter() {
      const wanted = this.search.value.trim().toLowerCase();
      let shown = 0;
      this.rows.forEach((row, i) => {
        const keep = row.text.includes(wanted) && (!this.only?.checked || row.out);
        row.element.hidden = !keep;
        this.bars?.[i].classList.toggle("off", !keep);
        shown += keep;
      });
      this.empty.hidden = shown > 0;
      this.count.textContent = shown === this.rows.length ? `${shown} rows` : `${shown} of ${this.rows.length} rows`;
    }

    download() {
      const lines = this.rows.filter((row) => !row.element.hidden)
        .map(({ hit }) => JSON.stringify({ query: this.index, ...hit }) + "\n");
      const link = make("a", { download: `whence-query-${this.index + 1}.jsonl` });
      link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }

    /** For word i of the answer: the largest link in any row, and the three strongest. */
    linksOf(i) {
      if (!this.links[i]) {
        let scale = 0;
        let best = [];
        for (const hit of this.content.hits) {
          const values = hit.words?.map[i];
          if (!values?.length) continue;
          scale = Math.max(scale, largest(values));
          let j = 0;
          values.forEach((value, k) => { if (value > values[j]) j = k; });
          if (values[j] > 0) best.push({ hit, j, value: values[j] });
        }
        best = best.sort((a, b) => b.value - a.value).slice(0, 3);
        this.links[i] = { scale, best };
      }
      return this.links[i];
    }
  }

  const wordTable = (parts, caption) => {
    const details = make("details", { class: "table" }, make("summary", {}, "Scores of the words"));
    details.addEventListener("toggle", () => {
      if (!details.open || details.querySelector("table")) return;
      const words = parts().filter((part) => part.words).flatMap((part) => part.words.scores.map((score, i) => ({ part, i, score })));
      words.sort((a, b) => b.score - a.score);
      const head = make("tr", {}, ...["Word", "Part", "Score"].map((name) => make("th", { scope: "col" }, name)));
      const rows = words.slice(0, TABLE_ROWS).map(({ part, i, score }) => make("tr", {},
        make("th", { scope: "row" }, make("bdi", {}, part.at(i))),
        make("td", {}, part.kind === "answer" || part.kind === "response" ? "response" : "prompt"), make("td", {}, number(score))));
      const methods = [...new Set(parts().filter((part) => part.words).map((part) => part.words.word_method))].join(", ");
      const left = words.length > TABLE_ROWS ? `; the first ${TABLE_ROWS} of ${words.length}` : "";
      details.append(make("table", {}, make("caption", {}, `${caption}${left} (${methods})`), make("thead", {}, head), make("tbody", {}, ...rows)));
    });
    return details;
  };

  // What is lit: one word is current (pointed at or focused), one may be held (clicked) until it is let go.
  const texts = new WeakMap(), painted = new Set();
  let current = null, held = null, leaving = 0;
  const textOf = (element) => texts.get(element.closest(".text"));
  const queryOf = (text) => text.owner.query ?? text.owner;

  function relight(row) {
    const { text, element } = current;
    if (text.kind !== "answer" || row.query !== text.owner || !row.hit.words?.map[element.index]) return;
    const response = row.parts[1];
    if (response && !painted.has(response)) response.paint(row.hit.words.map[element.index], text.owner.linksOf(element.index).scale);
  }

  function describe(text, i) {
    const query = queryOf(text), quoted = (word) => make("bdi", {}, make("b", {}, `“${word}”`));
    const links = [];
    if (text.kind === "answer") {
      for (const { hit, j, value } of query.linksOf(i).best) {
        const [start, end] = toUnits(hit.response, hit.words.response.spans)[j];
        links.push([`row ${hit.rank} `, quoted(visible(hit.response.slice(start, end))), ` ${number(value)}`]);
      }
    } else if (text.kind === "response" && query.answer.words) {
      text.owner.hit.words.map.map((values, k) => [values[i], k]).filter(([value]) => value > 0)
        .sort((a, b) => b[0] - a[0]).slice(0, 3)
        .forEach(([value, k]) => links.push([quoted(query.answer.at(k)), ` ${number(value)}`]));
    }
    const where = text.owner.hit ? `Row ${text.owner.hit.rank}: ` : "";
    const verb = text.kind === "answer" ? " · driven by " : " · drove ";
    query.readout.replaceChildren(where, quoted(text.at(i)), ` ${number(text.words.scores[i])}`,
      ...(links.length ? [verb, ...links.flatMap((link, k) => (k ? [", ", ...link] : link))] : []));
  }

  function light(element) {
    if (current?.element === element) return;
    dark();
    const text = textOf(element);
    current = { element, text };
    element.classList.add("at");
    describe(text, element.index);
    if (text.kind === "answer") for (const row of text.owner.rows) if (row.near && row.details.open) relight(row);
    if (text.kind === "response" && text.owner.hit.words.map.length && queryOf(text).answer.words) {
      const column = text.owner.hit.words.map.map((values) => values[element.index]);
      queryOf(text).answer.paint(column, largest(column));
    }
  }

  function dark() {
    if (!current) return;
    current.element.classList.remove("at");
    queryOf(current.text).readout.textContent = queryOf(current.text).hint;
    for (const text of [...painted]) text.wash();
    current = null;
  }

  function rest() {
    const focused = document.activeElement?.matches(".text .w:focus-visible") ? document.activeElement : null;
    const next = held?.isConnected ? held : focused;
    if (next) light(next); else dark();
  }

  function hold(element) {
    const before = held;
    if (before) { before.classList.remove("pinned"); before.removeAttribute("aria-pressed"); }
    held = element && element !== before ? element : null;
    if (held) { held.classList.add("pinned"); held.setAttribute("aria-pressed", "true"); light(held); } else rest();
  }

  const wordAt = (event) => (event.target instanceof Element ? event.target.closest(".text .w") : null);
  document.addEventListener("pointerover", (event) => {
    const word = wordAt(event);
    if (!word) return;
    clearTimeout(leaving);
    light(word);
  });
  document.addEventListener("pointerout", (event) => {
    if (!wordAt(event)) return;
    clearTimeout(leaving);
    leaving = setTimeout(rest, 90); // the pointer crosses the gap between two words without a flicker
  });
  document.addEventListener("focusin", (event) => {
    const word = wordAt(event);
    if (word?.matches(":focus-visible")) light(word); else if (!held && current && !word) rest();
  });
  document.addEventListener("focusout", (event) => { if (wordAt(event)) setTimeout(rest, 0); });
  document.addEventListener("click", (event) => {
    const word = wordAt(event);
    if (word) hold(word); else if (held && !event.target.closest("button, summary, input, a")) hold(null);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { hold(null); dark(); return; }
    const word = wordAt(event);
    if (!word) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); hold(word); return; }
    const words = textOf(word).elements.filter(Boolean), at = words.indexOf(word);
    const forward = getComputedStyle(word).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: words.length - 1 };
    if (forward === "ArrowLeft") [to.ArrowLeft, to.ArrowRight] = [at + 1, at - 1];
    const next = words[to[event.key]];
    if (!next) return;
    event.preventDefault();
    word.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  const nearness = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.row.near = isIntersecting;
      if (isIntersecting) target.row.approach();
    }
  }, { rootMargin: "600px 0px" });
  const sticking = new IntersectionObserver((entries) => {
    for (const { target, intersectionRatio, boundingClientRect } of entries) {
      target.classList.toggle("stuck", intersectionRatio < 1 && boundingClientRect.top <= 0);
    }
  }, { rootMargin: "-1px 0px 0px 0px", threshold: [1] });

  const queries = [...document.querySelectorAll(".query")].map((section, i) => new Query(section, data.queries[i], i));
  const links = [...document.querySelectorAll("nav a")];
  for (const { section } of queries) sticking.observe(section.querySelector(".stick"));

  function show(index) {
    hold(null);
    dark();
    queries.forEach((query, i) => {
      query.section.hidden = i !== index;
      if (i === index) query.build();
      if (links[i]) { if (i === index) links[i].setAttribute("aria-current", "true"); else links[i].removeAttribute("aria-current"); }
    });
  }
  const asked = () => {
    const index = queries.findIndex((query) => `#${query.section.id}` === location.hash);
    return index < 0 ? 0 : index;
  };
  links.forEach((link, i) => link.addEventListener("click", (event) => {
    event.preventDefault(); // inside a notebook's frame a fragment would lead to the notebook's own page
    location.hash = queries[i].section.id;
    show(i);
    queries[i].section.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }));
  window.addEventListener("hashchange", () => show(asked()));
  if (queries.length) show(asked());

  const theme = document.getElementById("theme"), prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`); };
  theme.hidden = false;
  theme.addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; label(); });
  prefersDark.addEventListener("change", label);
  label();

  // Print has everything: every query and row open, no text folded. Afterwards the rows are as they were.
  let before = null;
  function unfoldAll() {
    if (before) return;
    before = [];
    for (const query of queries) {
      query.build();
      for (const row of query.rows) {
        row.build();
        before.push([row.details, row.details.open]);
        row.details.open = true;
        for (const part of row.parts) { part.unfold(); part.decorate(); }
      }
      for (const element of query.section.querySelectorAll(".text")) texts.get(element).unfold();
    }
  }
  function refold() {
    for (const [details, open] of before ?? []) details.open = open;
    before = null;
  }
  window.addEventListener("beforeprint", unfoldAll);
  window.addEventListener("afterprint", refold);
  matchMedia("print").addEventListener("change", (event) => (event.matches ? unfoldAll() : refold()));
})();
