/** What exists before anything is started: a folder, the ports, and a list of all that has to be ended with the run. */
import { chmodSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Layout, makeLayout } from "./layout.ts";
import { Processes } from "./processes.ts";

export interface PreparedRun {
  readonly folder: string;
  readonly layout: Layout;
  /** `end` it, whatever happens. */
  readonly processes: Processes;
}

/** @param prefix how the folder's name begins, in the system's folder for temporary files */
export async function prepareRun(prefix: string, podIds: readonly string[]): Promise<PreparedRun> {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  // PostgreSQL's system user has to pass through it.
  chmodSync(folder, 0o711);
  const layout = await makeLayout(folder, podIds);
  mkdirSync(layout.logs);
  const processes = new Processes(layout.logs);
  processes.add({ kind: "folder", path: folder });
  for (const pod of layout.pods)
    processes.add({ kind: "postgres", name: `postgres-${pod.podId}`, dataDirectory: pod.dataDirectory });
  return { folder, layout, processes };
}
