/** What the source of a rollback is replicated by: the way back of the migration before, which is there already. */
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { logicalReplication } from "../move/replication.ts";
import type { SourceReplication } from "../replication/source-replication.ts";
import { backName, backPublication } from "../split/slots.ts";

export function rollbackReplication(ownership: Ownership): SourceReplication {
  return {
    ...logicalReplication(ownership, publicationOf),
    slots: slotOf,
    missing: (duty, present) => slotOf(duty).filter((name) => !present.some((slot) => slot.name === name)),
    remove: async () => undefined,
  };
}

const publicationOf = ({ of }: Duty): string[] => (of === null ? [] : [backPublication(of)]);
const slotOf = ({ of, podId }: Duty): string[] => (of === null ? [] : [backName(of, podId)]);
