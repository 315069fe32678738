/** The traffic as the demo sees it: a process with counts, which is told to stop and then finishes what it began. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Processes } from "../cluster/processes.ts";
import type { TrafficConfig, TrafficStats } from "./protocol.ts";

export interface RunningTraffic {
  /** The newest counts; null before the first. */
  stats(): TrafficStats | null;
  /** Resolves with the final counts, after everything under way was answered. */
  stop(): Promise<TrafficStats>;
  /** Rejects when it ends by itself. */
  readonly failed: Promise<never>;
}

const STOP_WITHIN_MS = 90_000;

export function startTraffic(processes: Processes, config: TrafficConfig): RunningTraffic {
  const file = join(config.folder, "traffic.json");
  writeFileSync(file, JSON.stringify(config, null, 2));
  const started = processes.start({
    name: "traffic",
    command: process.execPath,
    args: [join(import.meta.dirname, "main.ts"), file],
    io: "pipe",
  });
  const { stdin, stdout } = started.child;
  if (stdin === null || stdout === null) throw new Error("the traffic process has no pipes");
  let newest: TrafficStats | null = null;
  const done = (async () => {
    for await (const line of createInterface({ input: stdout })) newest = JSON.parse(line) as TrafficStats;
    return newest;
  })();
  return {
    stats: () => newest,
    failed: started.failed,
    stop: async () => {
      started.expectEnd();
      stdin.end();
      const final = await Promise.race([
        done,
        new Promise<null>((resolve) => setTimeout(() => resolve(null), STOP_WITHIN_MS).unref()),
      ]);
      if (final === null || !final.done)
        throw new Error(`the traffic did not end properly; see ${started.logFile}`);
      return final;
    },
  };
}
