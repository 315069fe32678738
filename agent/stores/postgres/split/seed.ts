/** The base copy of a target: from an empty directory, or from a half-finished attempt of the same migration. */
import { randomUUID } from "node:crypto";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { tally } from "../../../../protocol/telemetry/tally.ts";
import type { PeerPostgres } from "../config.ts";
import type { PostgresStoreOptions } from "../context.ts";
import type { Binaries } from "../server/binaries.ts";
import type { WarmConnection } from "../server/connection.ts";
import {
  contentOf,
  emptyDirectory,
  isOurs,
  prepareDirectory,
  wasPromoted,
  writeOrigin,
} from "../server/data-directory.ts";
import type { SystemUser } from "../server/run-as.ts";
import { runningServer, stopServer } from "../server/server.ts";
import type { StatusBoard } from "../status-board.ts";
import { endLeftCopier, runBaseBackup } from "./base-backup.ts";
import { settleCopiedFiles } from "./copied-conf.ts";
import type { CopyRecord, CopyRecords } from "./copy-record.ts";
import { readPosition } from "./lineage.ts";
import { readCarried } from "./server-settings.ts";
import { freeSlot, readSlots, slotName } from "./slots.ts";
import { readSourceFacts } from "./source-facts.ts";
import { configureStandby } from "./standby-files.ts";

const SLOT_LOOK_EVERY_MS = 100;

export interface SeedContext {
  readonly options: PostgresStoreOptions;
  readonly binaries: Binaries;
  readonly runAs: SystemUser | null;
  readonly source: PeerPostgres;
  readonly sourceConnection: WarmConnection;
  readonly records: CopyRecords;
  readonly board: StatusBoard;
}

/**
 * Makes the data directory a complete, configured, stopped standby; at once when it already is one.
 * @throws CleaveError POSTGRES_NOT_EMPTY when it holds what no record of ours explains; POSTGRES_PROMOTED; DISK_FULL and the like
 * leave an empty directory behind, so that the next call starts over.
 */
export async function ensureSeeded(
  context: SeedContext,
  duty: Duty,
  beforeCopy: () => Promise<void>,
  signal: AbortSignal,
): Promise<CopyRecord> {
  const { options, records, runAs } = context;
  const { dataDirectory } = options.config;
  const before = await records.load(duty.migrationId);
  const content = await contentOf(dataDirectory);
  const isEmpty = content === null || content.length === 0;
  if (!isEmpty) {
    if (before === null || before.dataDirectory !== dataDirectory || !(await isOurs(before)))
      throw new CleaveError(
        "POSTGRES_NOT_EMPTY",
        `${dataDirectory} holds ${content.length} entries that this migration did not put there`,
      );
    if (before.state === "copied") return before;
    await refusePromoted(dataDirectory);
    await beforeCopy();
    await endLeftCopier(before);
    await stopServer(dataDirectory, "immediate", signal);
  }
  // Before the directory is touched, for everything in it counts as ours from here on.
  let record: CopyRecord = {
    version: 1,
    migrationId: duty.migrationId,
    dataDirectory,
    state: "copying",
    attempt: (before?.attempt ?? 0) + 1,
    token: randomUUID(),
    copier: null,
    systemIdentifier: null,
  };
  await beforeCopy();
  await records.save(record);
  await emptyDirectory(dataDirectory);
  await prepareDirectory(dataDirectory, runAs);
  try {
    record = await copy(context, duty, record, signal);
  } catch (error) {
    // Not when the agent is stopping: removing can take long, and the next start does it.
    if (!signal.aborted) await emptyDirectory(dataDirectory).catch(() => undefined);
    throw error;
  }
  return record;
}

/** An agent's memory may be older than what it is of: a state directory that was restored. */
async function refusePromoted(dataDirectory: string): Promise<void> {
  if (await wasPromoted(dataDirectory))
    throw new CleaveError(
      "POSTGRES_PROMOTED",
      `${dataDirectory} is of a server that was promoted, so nothing of it is removed`,
    );
}

async function copy(
  context: SeedContext,
  duty: Duty,
  started: CopyRecord,
  signal: AbortSignal,
): Promise<CopyRecord> {
  const { options, binaries, runAs, source, sourceConnection, records, board } = context;
  const slot = slotName(duty.migrationId, options.podId);
  await waitForSlot(context, slot, signal);
  await sourceConnection.use((db) => freeSlot(db, slot));
  let record = started;
  let copiedBytes = 0;
  await runBaseBackup({
    binaries,
    source,
    dataDirectory: record.dataDirectory,
    slot,
    applicationName: options.podId,
    bytesPerSecond: duty.settings.rateLimits.baseBackupBytesPerSecond,
    runAs,
    signal,
    onStart: async (copier) => {
      record = { ...record, copier };
      await records.save(record);
    },
    onProgress: (done, total) => {
      tally("postgres", "bytes", done - copiedBytes);
      copiedBytes = done;
      board.set({ progress: { done, total, unit: "bytes" } });
    },
  });
  const known = await sourceConnection.use(readSourceFacts);
  const arrived = await settleCopiedFiles(record.dataDirectory, known.usesCopiedFile, runAs);
  const facts = { ...known, carried: await readCarried(source, arrived) };
  const { systemIdentifier } = await readPosition((text) => sourceConnection.query(text));
  await configureStandby({ config: options.config, podId: options.podId, source, slot, facts, runAs });
  await writeOrigin(record, runAs);
  record = { ...record, state: "copied", copier: null, systemIdentifier };
  await records.save(record);
  return record;
}

/** The source makes the slot as part of its own goal; until then there is nothing to do here. */
async function waitForSlot(context: SeedContext, slot: string, signal: AbortSignal): Promise<void> {
  const { options, sourceConnection, board } = context;
  for (;;) {
    signal.throwIfAborted();
    const [found] = await sourceConnection.use((db) => readSlots(db, [slot]));
    if (found) break;
    board.problem(
      new CleaveError("PEER_UNREACHABLE", `the source has not made the replication slot ${slot} yet`),
    );
    await options.clock.sleep(SLOT_LOOK_EVERY_MS, signal);
  }
  board.set({ problems: [] });
}

/**
 * Removes what was copied for an aborted migration, so that the Pod is empty again. Without a record of ours, or
 * with anything in the directory that the record does not explain, nothing is removed.
 * @throws CleaveError POSTGRES_PROMOTED: then it may be authoritative.
 */
export async function removeCopy(records: CopyRecords, duty: Duty, signal: AbortSignal): Promise<void> {
  const record = await records.load(duty.migrationId);
  if (record === null) return;
  const { dataDirectory } = record;
  await endLeftCopier(record);
  const content = (await contentOf(dataDirectory)) ?? [];
  // A removal that was killed may have left anything, so it becomes a copy in progress before it begins.
  if (content.length > 0 && (await isOurs(record))) {
    await refusePromoted(dataDirectory);
    if (await runningServer(dataDirectory)) await stopServer(dataDirectory, "immediate", signal);
    await records.save({ ...record, state: "copying", copier: null });
    await emptyDirectory(dataDirectory);
  }
  await records.remove(duty.migrationId);
}
