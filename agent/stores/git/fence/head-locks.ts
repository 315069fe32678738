/** Whether HEAD has to be held locked at the fence, and by what: where the agent's own git is older than the hook needs. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { HeadLocks } from "../backend/folder/head-locks.ts";
import type { GitContext } from "../context.ts";
import { gitVersion, HEAD_IN_HOOK_GIT, isOlder } from "../preflight.ts";

/** Asked at first use, and again after it failed. Null where the hook sees changes of HEAD, or by configuration. */
export function headLocksOf(context: GitContext): () => Promise<HeadLocks | null> {
  let known: Promise<HeadLocks | null> | null = null;
  return () => {
    known ??= makeLocks(context).catch((error: unknown) => {
      known = null;
      throw error;
    });
    return known;
  };
}

async function makeLocks(context: GitContext): Promise<HeadLocks | null> {
  const { config, git, inventory, stateDirectory, clock } = context;
  if (config.headLock === "never") return null;
  const version = await gitVersion(git);
  if (config.headLock === "auto" && version !== null && !isOlder(version, HEAD_IN_HOOK_GIT)) return null;
  await mkdir(stateDirectory, { recursive: true });
  const locks = new HeadLocks({
    directoryOf: (path) => inventory.gitDirectory(path),
    template: join(stateDirectory, "head-lock"),
    clock,
  });
  await locks.prepare();
  return locks;
}
