/**
 * What the newest checks before a fence have looked at, by migration: in a file, so that an agent that is started again
 * between them and the fence knows it too.
 */
import type { MigrationId } from "../../../protocol/ids.ts";
import { StateFile } from "../common/state-file.ts";
import { CheckedState } from "./fence/checked.ts";

const fileOf = (stateDirectory: string, migrationId: MigrationId) =>
  new StateFile(stateDirectory, `postgres/${migrationId}.checked`);

export async function saveChecked(
  stateDirectory: string,
  migrationId: MigrationId,
  checked: CheckedState,
): Promise<void> {
  const file = fileOf(stateDirectory, migrationId);
  await file.makeFolder();
  // Lost in a crash of the machine it is as if nothing had been checked.
  await file.replace(`${JSON.stringify(checked)}\n`, { durable: false });
}

/** Null when nothing is known to have been checked. */
export async function loadChecked(
  stateDirectory: string,
  migrationId: MigrationId,
): Promise<CheckedState | null> {
  const text = await fileOf(stateDirectory, migrationId).readIfPresent();
  if (text === null) return null;
  try {
    return CheckedState.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

export async function forgetChecked(stateDirectory: string, migrationId: MigrationId): Promise<void> {
  await fileOf(stateDirectory, migrationId).remove();
}
