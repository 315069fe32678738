/** Which git this machine has. */
import { type GitOptions, runGit } from "./run-git.ts";

export const OLDEST_GIT = [2, 31] as const;
/** From here on the hook sees changes of symbolic references. */
export const HEAD_IN_HOOK_GIT = [2, 46] as const;

/** Major and minor number, or null when git says something else. */
export async function gitVersion(git: GitOptions): Promise<readonly [number, number] | null> {
  const { stdout } = await runGit(["version"], git);
  const match = /^git version (\d+)\.(\d+)/.exec(stdout.toString("latin1"));
  return match ? [Number(match[1]), Number(match[2])] : null;
}

export function isOlder(version: readonly [number, number], than: readonly [number, number]): boolean {
  return version[0] < than[0] || (version[0] === than[0] && version[1] < than[1]);
}
