/** A temporary folder in memory for the tests, where there is one: they make and remove some hundred servers' files. */
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { freemem } from "node:os";
import { join } from "node:path";
import { say } from "./say.mjs";

const FOLDER = "/dev/shm";
/** Two end-to-end tests at once hold under 2 GB. */
const ENOUGH_BYTES = 6e9;

/**
 * Sets TMPDIR for whatever is started from here, unless the person has. On this project's two-core reference machine the
 * tests of PostgreSQL take less than half the time: most of it went into syncing files that nobody reads again.
 */
export function useMemoryFolder() {
  if (process.env.TMPDIR !== undefined || process.platform !== "linux") return;
  if (!isSuitable()) return;
  process.env.TMPDIR = FOLDER;
  say(`temporary files of the tests go to ${FOLDER} (set TMPDIR for another place)`);
}

function isSuitable() {
  let folder;
  try {
    const { bavail, bsize } = statfsSync(FOLDER);
    if (bavail * bsize < ENOUGH_BYTES || freemem() < ENOUGH_BYTES) return false;
    // Containers often mount it so that nothing in it can be run, and Git's hooks have to be.
    folder = mkdtempSync(join(FOLDER, "cleave-"));
    const script = join(folder, "script");
    writeFileSync(script, "#!/bin/sh\nexit 0\n");
    chmodSync(script, 0o700);
    return spawnSync(script).status === 0;
  } catch {
    return false;
  } finally {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  }
}
