/** A fault of the agent itself: it gave a store what only the other side of a migration does. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { STORE_STATES } from "../../../protocol/wording.ts";

/** @returns INTERNAL, to be thrown. */
export function misplacedDuty({ role, goal }: Duty): CleaveError {
  return new CleaveError("INTERNAL", `a ${role} was given what the other side does: ${STORE_STATES[goal]}`);
}
