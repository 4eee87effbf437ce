// The basket that all views, and all tabs, share: the latest one that the server keeps.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type Basket } from "./api";

/** Its rows are put in and taken out one by one on the server, so that another tab's stay; `failed` is told of errors. */
export function useBasket(failed: (error: unknown) => void) {
  const [basket, setBasket] = useState<Basket | null>(null);
  const latest = useRef<Basket | null>(null), last = useRef<Promise<void>>(Promise.resolve());
  const keep = (found: Basket | null) => { latest.current = found; setBasket(found); };
  /** One after the other: what is read last is shown last. */
  const queued = (work: () => Promise<void>, or: (error: unknown) => void) => (last.current = last.current.then(work).catch(or));
  const load = async () => keep((await api.baskets()).baskets[0] ?? null);
  const toggle = (rows: string[], on: boolean) => queued(async () => {
    const own = latest.current ?? await api.latestBasket();
    keep(await api.editBasket(own.id, on ? { add: rows } : { remove: rows }));
  }, failed);
  useEffect(() => {
    // Another tab may have changed it. A server that does not answer is said by what is asked of it next.
    const look = () => { if (document.visibilityState === "visible") void queued(load, () => undefined); };
    window.addEventListener("focus", look);
    document.addEventListener("visibilitychange", look);
    return () => { window.removeEventListener("focus", look); document.removeEventListener("visibilitychange", look); };
  }, []);
  return { basket, load, toggle };
}
