/**
 * Holds every attempt in `matching`: a hook of the targets, called when the fence is up, ends when a file is gone, and until then
 * there is no consensus. Stopping an agent instead would come too late on a busy machine: its evidence may be said by then.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const fileOf = (folder: string) => join(folder, "hold");

/** For the configuration of agents whose run is in that folder; it holds nothing until `hold`. */
export const holding = (folder: string) => ({
  hooks: [
    {
      name: "hold",
      at: "fenced",
      // The source's drain is over only with its hooks, and is not to be held.
      role: "target",
      command: ["/bin/sh", "-c", 'while [ -e "$0" ]; do sleep 0.02; done', fileOf(folder)],
      timeLimitMs: 30_000,
    },
  ],
});

/** From the next fence on. */
export const hold = (folder: string): void => writeFileSync(fileOf(folder), "");

export const letGo = (folder: string): void => rmSync(fileOf(folder), { force: true });
