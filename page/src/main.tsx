// The page: its header, its addresses, and the basket that all views share.
import { render } from "preact";
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import "../../src/whence/report/templates/page.css";
import "../../src/whence/report/templates/audit.css";
import "./page.css";
import { api, Failure, type IndexInfo, token } from "./api";
import { Ask } from "./ask";
import { Audits, AuditView } from "./audits";
import { useBasket } from "./basket";
import { BasketView, Data, Past, RowView } from "./kept";
import { Busy, Problem, START, takeHanded } from "./parts";

/** A filter or a file in an address. */
const decoded = (text: string) => { try { return decodeURIComponent(text); } catch { return ""; } };

const addressed = () => location.hash.replace(/^#\/?/, "").split("/");

function Page() {
  const [info, setInfo] = useState<IndexInfo | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [route, setRoute] = useState(addressed());
  const { basket, load, toggle } = useBasket(setError);
  const [texts, setTexts] = useState(localStorage.getItem("whence-texts") !== "hidden");

  const start = async () => {
    setError(null);
    try {
      const found = await api.index();
      await load();
      setInfo(found);
    } catch (failed) { setError(failed); }
  };
  useEffect(() => { void start(); }, []);
  useLayoutEffect(() => { // at once: an address may change before anything is painted
    const moved = () => {
      if (location.hash !== START) takeHanded(); // another view was chosen meanwhile
      setRoute(addressed());
      window.scrollTo(0, 0);
    };
    window.addEventListener("hashchange", moved);
    return () => window.removeEventListener("hashchange", moved);
  }, []);

  const show = (on: boolean) => { setTexts(on); localStorage.setItem("whence-texts", on ? "shown" : "hidden"); };
  const showText = texts && (info?.show_text ?? true);
  const [view = "", id = "", line = "", file = ""] = route;
  const inBasket = new Set(basket?.rows);
  const needsToken = error instanceof Failure && error.status === 401;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>Skip to the page</a>
      <header class="top">
        <a class="brand" href="#/">whence</a>
        <h1 dir="auto">{info ? `${info.name} · ${info.adapter ?? info.model}` : ""}</h1>
        <nav class="views" aria-label="Views">
          {[["", "Ask"], ["past", "Past"], ["audits", "Audits"], ["data", "Data"], ["basket", `Basket${inBasket.size ? ` (${inBasket.size})` : ""}`]].map(([name, label]) => (
            <a key={name} href={`#/${name}`} aria-current={view === name || (name === "" && view === "query") || (name === "audits" && view === "audit") ? "page" : undefined}>{label}</a>
          ))}
        </nav>
        {info?.show_text && <button type="button" aria-pressed={!texts} onClick={() => show(!texts)}>{texts ? "Hide texts" : "Show texts"}</button>}
        <Theme />
      </header>
      <main id="main" class="page" tabIndex={-1}>
        {needsToken && <Token done={start} wrong={token.get() !== null} />}
        {error !== null && !needsToken && <Problem error={error} retry={start} />}
        {!info && error === null && <Busy what="Opening the index" />}
        {info && (view === "past" ? <Past />
          : view === "audits" ? <Audits info={info} />
          : view === "audit" ? <AuditView key={id} id={id} showText={showText} basket={inBasket} toggle={toggle} />
          : view === "data" ? <Data key={id} info={info} showText={showText} filter={decoded(id)} />
            : view === "basket" ? <BasketView basket={basket} info={info} toggle={toggle} showText={showText} />
              : view === "row" ? <RowView key={route.join("/")} id={id} place={file ? { file: decoded(file), line: Number(line) } : null} showText={showText} basket={inBasket} toggle={toggle} />
                : <Ask id={view === "query" ? id : null} route={route} info={info} showText={showText} basket={inBasket} toggle={toggle} />)}
      </main>
    </>
  );
}

function Token({ done, wrong }: { done: () => void; wrong: boolean }) {
  const [value, setValue] = useState("");
  return (
    <form class="ask query" onSubmit={(event) => { event.preventDefault(); token.set(value.trim()); done(); }}>
      <h2 class="verdict">This server asks for its token</h2>
      {wrong && <p role="alert">That was not it.</p>}
      <label class="label" for="token">Token, as in the file that the server was started with</label>
      <input id="token" class="filter" type="password" autocomplete="off" value={value} onInput={(event) => setValue(event.currentTarget.value)} />
      <button type="submit" class="main" disabled={!value.trim()}>Open</button>
    </form>
  );
}

function Theme() {
  const prefers = matchMedia("(prefers-color-scheme: dark)");
  const [dark, setDark] = useState((localStorage.getItem("whence-theme") ?? (prefers.matches ? "dark" : "light")) === "dark");
  useEffect(() => { document.documentElement.dataset.theme = dark ? "dark" : "light"; }, [dark]);
  const turn = () => { localStorage.setItem("whence-theme", dark ? "light" : "dark"); setDark(!dark); };
  return <button type="button" id="theme" aria-label={`Switch to ${dark ? "light" : "dark"} colours`} onClick={turn}>{dark ? "Light" : "Dark"}</button>;
}

render(<Page />, document.getElementById("page")!);
