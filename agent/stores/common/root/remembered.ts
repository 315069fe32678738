/**
 * What an agent knows of a store's root, beside the root: written when it is marked, and again when an operator says that
 * another one is meant. Read at every look, so that a word holds from the next look on.
 */
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { CleaveError, toCleaveError } from "../../../../protocol/errors.ts";
import { codeOfFileError } from "../file-error.ts";
import { StateFile } from "../state-file.ts";
import type { IdentifiedRoot, RootIdentity } from "./identity.ts";

/** The longest reason that an operator may give. */
export const REASON_CHARACTERS = 1_000;

const Remembered = z.object({
  id: z.string().nullable(),
  traits: z.record(z.string(), z.string()),
  /** The last word of an operator about it. */
  accepted: z
    .object({
      /** Milliseconds since 1970. */
      at: z.number().int().nonnegative(),
      reason: z.string().max(REASON_CHARACTERS),
      /** When what was gone by then was said to be deleted on purpose; absent: never. */
      lossesAt: z.number().int().nonnegative().optional(),
    })
    .optional(),
});
export type Remembered = z.infer<typeof Remembered>;

const fileOf = (stateDirectory: string) => new StateFile(stateDirectory, "root.json");

/** Null when none is known. @throws CleaveError ROOT_FORGOTTEN when it is damaged, or cannot be read. */
export async function readRemembered(stateDirectory: string): Promise<Remembered | null> {
  const file = fileOf(stateDirectory);
  try {
    const text = await file.readIfPresent();
    return text === null ? null : Remembered.parse(JSON.parse(text));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === undefined ? "is damaged" : `cannot be read (${code})`;
    throw new CleaveError("ROOT_FORGOTTEN", `${file.path} ${why}, so nobody knows which root was there`, {
      cause: error,
    });
  }
}

/** Durable when it resolves. @throws CleaveError DISK_FULL, FILE_PERMISSION. */
export async function writeRemembered(stateDirectory: string, remembered: Remembered): Promise<void> {
  const file = fileOf(stateDirectory);
  try {
    await file.makeFolder();
    await file.replace(`${JSON.stringify(remembered)}\n`, { durable: true });
  } catch (error) {
    const code = codeOfFileError(error) ?? "FILE_PERMISSION";
    throw new CleaveError(code, `${file.path}: ${(error as Error).message}`, { cause: error });
  }
}

export async function removeRemembered(stateDirectory: string): Promise<void> {
  await fileOf(stateDirectory).remove();
}

/**
 * An operator's word: what is there now is the root from now on, in place of what was known or is damaged; with `losses`,
 * what is gone from it is meant to be. A root without a mark gets one. Null, and nothing is written, when no root is known:
 * no migration has marked one yet, so that there is nothing that it could differ from.
 * @throws CleaveError ROOT_UNREADABLE, ROOT_FORGOTTEN when what was known cannot be read, DISK_FULL, FILE_PERMISSION.
 */
export async function acceptRoot(
  root: IdentifiedRoot,
  stateDirectory: string,
  word: { readonly reason: string; readonly losses: boolean; readonly at: number },
): Promise<RootIdentity | null> {
  const before = await readRemembered(stateDirectory).catch((error: CleaveError) => {
    // A file that cannot be read may be whole: whoever replaced it would take it from the agent.
    if ((error.cause as NodeJS.ErrnoException).code !== undefined) throw error;
    return { accepted: undefined };
  });
  if (before === null) return null;
  let found = await root.identify();
  if (found.id === null) {
    await root.mark(randomUUID()).catch((error: unknown) => {
      // Known by folder, device and file system alone, as where the agent itself may not write.
      if (toCleaveError(error).code !== "FILE_PERMISSION") throw error;
    });
    found = await root.identify();
  }
  const lossesAt = word.losses ? word.at : before.accepted?.lossesAt;
  const accepted = { at: word.at, reason: word.reason, ...(lossesAt === undefined ? {} : { lossesAt }) };
  await writeRemembered(stateDirectory, { ...found, accepted });
  return found;
}
