/** What the store is made of, and what it checks before anything is changed. */
import type { ErrorCode } from "../../../protocol/errors.ts";
import type { CheckStage, Finding } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { Chance } from "../../world/random.ts";
import type { Run } from "../host.ts";
import type { Network } from "../network.ts";
import type { PostgresServer } from "./server.ts";
import { backSlotName } from "./slot-names.ts";

export interface PostgresStoreParts {
  readonly run: Run;
  readonly own: PostgresServer;
  readonly serverOf: (podId: string) => PostgresServer;
  readonly network: Network;
  /** Of this Pod's agent's start, so that every marker has its own token. */
  readonly chance: Chance;
  readonly copyMs: number;
  readonly failsUntil: () => number;
  /** Of a move: only what these have. */
  readonly onRemoved: (organizations?: readonly string[]) => void;
}

export function checkPostgres(own: PostgresServer, duty: Duty, stage: CheckStage): Finding[] {
  const error = (code: ErrorCode, message: string): Finding[] => [
    { store: "postgres", severity: "error", code, message },
  ];
  if (stage === "removal") return own.up ? [] : error("POSTGRES_UNREACHABLE", "the server does not answer");
  if (duty.role === "source" || duty.kind !== "split") {
    if (!own.up) return error("POSTGRES_UNREACHABLE", `the ${duty.role} does not answer`);
    if (duty.kind === "rollback" && duty.role === "source") {
      const slot = own.logical.slots.get(backSlotName(duty.of as string, own.podId));
      if (slot === undefined || slot.lost)
        return error("POSTGRES_SETTING", "the replication slot of reverse replication is gone");
    }
    if (duty.role === "source" || stage === "fence" || duty.kind === "rollback") return [];
    // Rule 9: what a move's target holds is others'.
    const present = [...duty.assignments.keys()].find((organization) => own.state.rows.has(organization));
    return present === undefined
      ? []
      : error("TARGET_HOLDS_ORGANIZATION", `rows of ${present} are here already`);
  }
  if (stage === "start" && own.role !== "absent")
    return error("POSTGRES_NOT_EMPTY", "the data directory is not empty");
  return [];
}
