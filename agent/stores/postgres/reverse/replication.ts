/** What the source of a rollback is replicated by: the way back of the migration before, which is there already. */
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { logicalReplication } from "../move/replication.ts";
import type { SourceReplication } from "../replication/source-replication.ts";
import { backName } from "../split/slots.ts";

export function rollbackReplication(ownership: Ownership): SourceReplication {
  const { evidence } = logicalReplication(ownership);
  return {
    logical: true,
    slots: slotOf,
    prepare: async () => undefined,
    missing: (duty, present) => slotOf(duty).filter((name) => !present.some((slot) => slot.name === name)),
    evidence,
    remove: async () => undefined,
  };
}

const slotOf = ({ of, podId }: Duty): string[] => (of === null ? [] : [backName(of, podId)]);
