/** Proof, kept over restarts, of what a migration may remove from a target again: only what it brought itself. */
import { z } from "zod";
import { CleaveError } from "../../../../protocol/errors.ts";
import { MigrationId } from "../../../../protocol/ids.ts";
import { StateFile } from "../../common/state-file.ts";

const CopyRecord = z.object({
  migrationId: MigrationId,
  /** The root held nothing when the first object was copied. */
  emptyBefore: z.literal(true),
  /** Which root that was: nothing is removed from another. Null for one without a mark; absent of an earlier version. */
  rootId: z.string().nullable().optional(),
  /** From then on the copies are this Pod's own objects and are never removed. */
  activated: z.boolean(),
});
export type CopyRecord = z.infer<typeof CopyRecord>;

const fileOf = (stateDirectory: string, migrationId: MigrationId) =>
  new StateFile(stateDirectory, `copies/${migrationId}.json`);

/** @throws CleaveError CONFIG_INVALID when it is damaged: then nothing is proved and nothing may be removed. */
export async function readCopyRecord(
  stateDirectory: string,
  migrationId: MigrationId,
): Promise<CopyRecord | null> {
  const file = fileOf(stateDirectory, migrationId);
  const text = await file.readIfPresent();
  if (text === null) return null;
  try {
    const record = CopyRecord.parse(JSON.parse(text));
    if (record.migrationId === migrationId) return record;
  } catch {
    // Answered below.
  }
  throw new CleaveError(
    "CONFIG_INVALID",
    `${file.path} is damaged; look at what the object store holds, then remove it`,
  );
}

export async function writeCopyRecord(stateDirectory: string, record: CopyRecord): Promise<void> {
  const file = fileOf(stateDirectory, record.migrationId);
  await file.makeFolder();
  await file.replace(`${JSON.stringify(record)}\n`, { durable: true });
}

export async function removeCopyRecord(stateDirectory: string, migrationId: MigrationId): Promise<void> {
  await fileOf(stateDirectory, migrationId).remove();
}
