/** The end of a migration in the object store: its objects carry no mark. */
import { Ending } from "../../common/removal/ending.ts";
import type { ObjectsContext } from "../context.ts";
import { removeCopyRecord } from "../replication/copy-record.ts";
import { ObjectsRemoval } from "./remove.ts";

export function objectsEnding(context: ObjectsContext): Ending {
  return new Ending({
    removal: new ObjectsRemoval(context),
    fence: context.fence,
    removeMarks: async () => undefined,
    removeRecord: ({ migrationId }) => removeCopyRecord(context.stateDirectory, migrationId),
    changed: context.changed,
  });
}
