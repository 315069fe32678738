/** The end of a migration in Git: what marks its mirrors goes too. */
import { rm } from "node:fs/promises";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { Ending } from "../../common/removal/ending.ts";
import { ignoring, scanRoot } from "../backend/folder/repository-path.ts";
import { emptyRecord, type GitContext } from "../context.ts";
import { isMirrorOf, removeMark } from "../replication/mirror.ts";
import { GitRemoval } from "./remove.ts";

export function gitEnding(context: GitContext): Ending {
  return new Ending({
    removal: new GitRemoval(context),
    fence: context.fence,
    removeMarks: (duty, signal) => removeMarks(context, duty, signal),
    removeRecord: (duty) => rm(emptyRecord(context, duty), { force: true }),
    changed: context.changed,
  });
}

async function removeMarks(
  { config, inventory }: GitContext,
  { migrationId }: Duty,
  signal: AbortSignal,
): Promise<void> {
  const { repositories } = await scanRoot(config.root, ignoring(config.ignore), signal);
  for (const path of repositories) {
    signal.throwIfAborted();
    const directory = inventory.gitDirectory(path);
    if (await isMirrorOf(directory, migrationId)) await removeMark(directory);
  }
}
