/** A target's data directory as files: empty or not, ours or not, emptied. */
import { chmod, mkdir, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { renameDurably } from "../../../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { CopyRecord } from "../split/copy-record.ts";
import { giveTo, type SystemUser } from "./run-as.ts";
import { readTextOrNull } from "./server.ts";

/** Holds the record's token once the copy is complete. */
const ORIGIN_FILE = "cleave.origin";

function fileError(error: unknown, path: string): CleaveError {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") return new CleaveError("DISK_FULL", `${path}: ${message}`);
  return new CleaveError("FILE_PERMISSION", `${path}: ${message}`, { cause: error });
}

/** Names in it; null when it does not exist. @throws CleaveError FILE_PERMISSION. */
export async function contentOf(path: string): Promise<string[] | null> {
  try {
    return await readdir(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw fileError(error, path);
  }
}

/** Makes it exist, empty, owned by the server's user and closed to others, as PostgreSQL demands. */
export async function prepareDirectory(path: string, runAs: SystemUser | null): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await giveTo(runAs, path);
    await chmod(path, 0o700);
  } catch (error) {
    throw fileError(error, path);
  }
}

/**
 * A server runs on it, or has run, that was no standby: what is in it may be the only copy of writes, whatever an agent
 * remembers. A base copy has its control file last, and until then or until its first start its backup label; a standby
 * has its signal file.
 */
export async function wasPromoted(path: string): Promise<boolean> {
  const content = new Set((await contentOf(path)) ?? []);
  const isCopy = ["standby.signal", "recovery.signal", "backup_label"].some((name) => content.has(name));
  return (
    !isCopy && content.has("global") && ((await contentOf(join(path, "global"))) ?? []).includes("pg_control")
  );
}

/** Removes what is in it and keeps the directory itself, which may be a mount point. */
export async function emptyDirectory(path: string): Promise<void> {
  try {
    // Without a control file what is left, should this be interrupted, is no server that was promoted.
    await rm(join(path, "global", "pg_control"), { force: true });
    for (const name of (await contentOf(path)) ?? [])
      await rm(join(path, name), { recursive: true, force: true });
  } catch (error) {
    throw error instanceof CleaveError ? error : fileError(error, path);
  }
}

/** Replaces a small file: synced, readable by the server's user alone. */
export async function writeOwnedFile(
  path: string,
  content: string | Uint8Array,
  runAs: SystemUser | null,
): Promise<void> {
  const temporary = `${path}.cleave-new`;
  try {
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await giveTo(runAs, temporary);
    await renameDurably(temporary, path);
  } catch (error) {
    throw fileError(error, path);
  }
}

export async function writeOrigin(record: CopyRecord, runAs: SystemUser | null): Promise<void> {
  await writeOwnedFile(join(record.dataDirectory, ORIGIN_FILE), `${record.token}\n`, runAs);
}

/** Whether everything in the directory was put there for that record's migration. */
export async function isOurs(record: CopyRecord): Promise<boolean> {
  return record.state === "copying" || carriesToken(record.dataDirectory, record.token);
}

/** The directory is the complete copy that was given this token, or what became of it. */
export async function carriesToken(dataDirectory: string, token: string): Promise<boolean> {
  return (await readTextOrNull(join(dataDirectory, ORIGIN_FILE)))?.trim() === token;
}
