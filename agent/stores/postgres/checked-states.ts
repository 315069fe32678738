/**
 * What the newest checks before a fence have looked at, by migration: in a file, so that an agent that is started again
 * between them and the fence knows it too.
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import writeFileAtomic from "write-file-atomic";
import type { MigrationId } from "../../../protocol/ids.ts";
import { CheckedState } from "./fence/checked.ts";
import { readTextOrNull } from "./server/server.ts";

const pathOf = (stateDirectory: string, migrationId: MigrationId) =>
  join(stateDirectory, "postgres", `${migrationId}.checked`);

export async function saveChecked(
  stateDirectory: string,
  migrationId: MigrationId,
  checked: CheckedState,
): Promise<void> {
  await mkdir(join(stateDirectory, "postgres"), { recursive: true });
  // Lost in a crash of the machine it is as if nothing had been checked.
  await writeFileAtomic(pathOf(stateDirectory, migrationId), `${JSON.stringify(checked)}\n`, {
    fsync: false,
  });
}

/** Null when nothing is known to have been checked. */
export async function loadChecked(
  stateDirectory: string,
  migrationId: MigrationId,
): Promise<CheckedState | null> {
  const text = await readTextOrNull(pathOf(stateDirectory, migrationId));
  if (text === null) return null;
  try {
    return CheckedState.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

export async function forgetChecked(stateDirectory: string, migrationId: MigrationId): Promise<void> {
  await rm(pathOf(stateDirectory, migrationId), { force: true });
}
