/**
 * The agent's own record of what it copied for a migration: the only proof on which anything in a data directory is
 * ever removed.
 */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { replaceDurably } from "../../../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../../../protocol/errors.ts";
import { MigrationId } from "../../../../protocol/ids.ts";
import { readTextOrNull } from "../server/server.ts";

export const CopyRecord = z.object({
  version: z.literal(1),
  migrationId: MigrationId,
  dataDirectory: z.string(),
  /** `copying`: the directory was empty when this was written, so all in it is ours. `copied`: it carries `token`. */
  state: z.enum(["copying", "copied"]),
  attempt: z.number().int().positive(),
  token: z.string(),
  /** Of the program that copies, so that a restarted agent finds and ends it. */
  copier: z.object({ pid: z.number().int().positive(), startTime: z.string() }).nullable(),
  /** Of the source, when the copy was complete. */
  systemIdentifier: z.string().nullable(),
});
export type CopyRecord = z.infer<typeof CopyRecord>;

const folderOf = (stateDirectory: string) => join(stateDirectory, "postgres");

/** A migration copies, or has copied, into this Pod and is not over. */
export async function hasCopyRecords(stateDirectory: string): Promise<boolean> {
  const names = await readdir(folderOf(stateDirectory)).catch(() => []);
  const records = await Promise.all(
    names
      .filter((name) => name.endsWith(".json"))
      .map(async (name) => await readTextOrNull(join(folderOf(stateDirectory), name)).catch(() => null)),
  );
  return records.some((text) => text !== null && /"state":"cop(ying|ied)"/.test(text));
}

export class CopyRecords {
  readonly #folder: string;
  constructor(stateDirectory: string) {
    this.#folder = folderOf(stateDirectory);
  }

  #path(migrationId: MigrationId): string {
    return join(this.#folder, `${migrationId}.json`);
  }

  /** @throws CleaveError CONFIG_INVALID when it is damaged: then nothing is proven. */
  async load(migrationId: MigrationId): Promise<CopyRecord | null> {
    const path = this.#path(migrationId);
    const text = await readTextOrNull(path);
    if (text === null) return null;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      value = null;
    }
    const parsed = CopyRecord.safeParse(value);
    if (!parsed.success)
      throw new CleaveError("CONFIG_INVALID", `${path} is damaged: ${z.prettifyError(parsed.error)}`);
    return parsed.data;
  }

  /** Durable when it resolves. */
  async save(record: CopyRecord): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    await replaceDurably(this.#path(record.migrationId), `${JSON.stringify(record)}\n`);
  }

  async remove(migrationId: MigrationId): Promise<void> {
    await rm(this.#path(migrationId), { force: true });
  }
}
