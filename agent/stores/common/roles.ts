/** Whose turn it is in a migration, in a store of files: its source or target, and at last its end. */
import type { Duty } from "../../../protocol/ports/store.ts";
import type { Door, Part } from "./door.ts";
import { Ending } from "./removal/ending.ts";

export interface Role extends Part {
  /** As the port says it of a store. */
  reach(duty: Duty, signal: AbortSignal): Promise<void>;
  /** Of a rollback's target: see `Duty`. */
  readonly of?: Duty["of"];
  /** Of a target: somebody else may follow what this one did. */
  letGo?(): Promise<void>;
}

/** One of them is called when the turn comes to it. */
export interface RoleMakers {
  readonly source: () => Role;
  readonly target: () => Role;
  readonly ending: () => Ending;
}

/** The role that answers for the duty's migration from now on: the one that did, or another when its turn has come. */
export async function takeTurn(door: Door<Role>, duty: Duty, make: RoleMakers): Promise<Role> {
  const known = door.part(duty.migrationId);
  const isEnding = duty.goal === "removeRows";
  // Whoever pauses a removal that has come to its end takes up the role again, without anything of it left.
  if (known !== undefined && known instanceof Ending === isEnding) return known;
  await known?.close();
  return door.admit(duty.migrationId, isEnding ? make.ending() : make[duty.role]());
}

/** Rollbacks of the duty's migration that are none any more, whether or not they know it already. */
export async function letRollbacksGo(door: Door<Role>, { migrationId, rollbacks }: Duty): Promise<void> {
  for (const [id, role] of door.parts())
    if (role.of === migrationId && !rollbacks.some((rollback) => rollback.migrationId === id))
      await role.letGo?.();
}

/** No migration is left but such as have come to their end. */
export function hasOnlyEndings(door: Door<Role>): boolean {
  return [...door.parts()].every(([, role]) => role instanceof Ending);
}
