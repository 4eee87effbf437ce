// Retrainings and audits that wait, run or have ended.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type Job } from "./api";
import { Busy, Problem, useLoaded } from "./parts";

/** Between two looks at jobs that wait or run. Events would hold one of the browser's six connections for each of them. */
const LOOK_MILLISECONDS = 1000;
const isActive = (job: Job) => job.state === "waiting" || job.state === "running";

/** The jobs of one kind as they go on; `ended` is told when one no longer waits or runs. */
export function useJobs(kind: Job["kind"], ended?: () => void) {
  const { value, setValue, error, retry } = useLoaded(() => api.jobs(), []);
  const [failed, setFailed] = useState<unknown>(null);
  const jobs = value?.jobs.filter((job) => job.kind === kind) ?? null;
  const shown = useRef(jobs);
  shown.current = jobs;
  const active = !!jobs?.some(isActive);
  const changed = (now: Job[]) => setValue((old) => old && { jobs: old.jobs.map((job) => now.find((other) => other.id === job.id) ?? job) });
  useEffect(() => {
    if (!active) return;
    let timer = 0, current = true;
    const look = async () => {
      try {
        const { jobs: now } = await api.jobs(true);
        if (!current) return;
        setFailed(null);
        changed(now);
        if (shown.current?.some((job) => isActive(job) && !now.some((other) => other.id === job.id))) { retry(); ended?.(); }
      } catch (error) {
        if (current) setFailed(error);
      }
      if (current) timer = window.setTimeout(look, LOOK_MILLISECONDS);
    };
    timer = window.setTimeout(look, LOOK_MILLISECONDS);
    return () => { current = false; clearTimeout(timer); };
  }, [active]);
  const again = () => { setFailed(null); retry(); };
  return { jobs, error: error ?? failed, retry: again, changed: (job: Job) => changed([job]) };
}

/** How far a job is, with a button to stop it, and what went wrong. */
export function JobState({ job, changed }: { job: Job; changed: (job: Job) => void }) {
  const [failed, setFailed] = useState<unknown>(null);
  return (
    <>
      {isActive(job) && <Busy what={job.state === "waiting" ? "Waiting for another job" : "Starting"} progress={job.progress} stop={() => api.cancel(job.id).then(changed, setFailed)} />}
      {job.error && <div class="problem" role="alert"><strong>{job.error.found}</strong><p>{job.error.expected}</p><p>{job.error.fix}</p></div>}
      {failed !== null && <Problem error={failed} />}
    </>
  );
}
