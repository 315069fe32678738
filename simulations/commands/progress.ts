/** How far a run of many seeds is, on the error output: redrawn on a terminal, now and then a line anywhere else. */
import { createLogUpdate } from "log-update";
import { duration } from "../../coordinator/cli/format.ts";

const REDRAWN_EVERY_MS = 500;
const PLAIN_EVERY_MS = 60_000;

export interface SoFar {
  readonly runs: number;
  readonly failed: number;
  /** Null when there is no such end. */
  readonly seeds: number | null;
  readonly endsAfterMs: number | null;
}

/** @returns what ends it */
export function showProgress(soFar: () => SoFar, elapsedMs: () => number): () => void {
  const { stderr } = process;
  const redrawn = createLogUpdate(stderr);
  const show = stderr.isTTY ? redrawn : (line: string) => stderr.write(`${line}\n`);
  const timer = setInterval(
    () => show(progressLine(soFar(), elapsedMs())),
    stderr.isTTY ? REDRAWN_EVERY_MS : PLAIN_EVERY_MS,
  );
  return () => {
    clearInterval(timer);
    if (!stderr.isTTY) return;
    redrawn.clear();
    redrawn.done();
  };
}

/** `1,200 of 10,000 seeds, 0 failed, 950 a minute, 9 min left`. */
export function progressLine({ runs, failed, seeds, endsAfterMs }: SoFar, elapsedMs: number): string {
  const count = (n: number) => n.toLocaleString("en-US");
  const perMs = elapsedMs === 0 ? 0 : runs / elapsedMs;
  const bySeeds = seeds === null || perMs === 0 ? Number.POSITIVE_INFINITY : (seeds - runs) / perMs;
  const leftMs = Math.min(bySeeds, (endsAfterMs ?? Number.POSITIVE_INFINITY) - elapsedMs);
  const left = Number.isFinite(leftMs) ? `, ${duration(Math.max(0, leftMs))} left` : "";
  const of = seeds === null ? "" : ` of ${count(seeds)}`;
  return `${count(runs)}${of} seeds, ${count(failed)} failed, ${count(Math.round(perMs * 60_000))} a minute${left}`;
}
