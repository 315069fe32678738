/** The end of a migration in Git: what marks its mirrors goes too. */
import type { Duty } from "../../../../protocol/ports/store.ts";
import { Ending } from "../../common/removal/ending.ts";
import { emptyRecord, type GitContext } from "../context.ts";
import { GitRemoval } from "./remove.ts";

export function gitEnding(context: GitContext): Ending {
  return new Ending({
    removal: new GitRemoval(context),
    fence: context.fence,
    removeMarks: (duty, signal) => removeMarks(context, duty, signal),
    removeRecord: (duty) => emptyRecord(context, duty).remove(),
    changed: context.changed,
  });
}

async function removeMarks(
  { backend }: GitContext,
  { migrationId }: Duty,
  signal: AbortSignal,
): Promise<void> {
  const { repositories } = await backend.list(signal);
  for (const path of repositories) {
    signal.throwIfAborted();
    if (await backend.isMadeFor(path, migrationId)) await backend.removeMark(path);
  }
}
