/** What a migration took away and a rollback brought back, as the log says. */
import type { Migration } from "../../protocol/cluster.ts";
import type { Truth } from "../truth.ts";

/** The rollback by which the organization is at its migration's source again; null when there is none. */
export function rollbackOf(truth: Truth, migration: Migration, organization: string): Migration | null {
  const found = truth
    .migrations()
    .find(
      (rollback) =>
        rollback.of === migration.migrationId &&
        Object.values(rollback.context.shares).includes("opened") &&
        truth.assignments(rollback).has(organization as never),
    );
  return found ?? null;
}

export function isRolledBack(truth: Truth, migration: Migration, organization: string): boolean {
  return rollbackOf(truth, migration, organization) !== null;
}
