/**
 * What an agent knows of a store's root, beside the root: written when it is marked, and again when an operator says that
 * another one is meant. Read at every look, so that a word holds from the next look on.
 */
import { z } from "zod";
import { CleaveError } from "../../../../protocol/errors.ts";
import { StateFile } from "../state-file.ts";
import type { IdentifiedRoot, RootIdentity } from "./identity.ts";

const Remembered = z.object({
  id: z.string().nullable(),
  traits: z.record(z.string(), z.string()),
  /** The last word of an operator about it. */
  accepted: z
    .object({
      /** Milliseconds since 1970. */
      at: z.number().int().nonnegative(),
      reason: z.string().max(1_000),
      /** When what was gone by then was said to be deleted on purpose; absent: never. */
      lossesAt: z.number().int().nonnegative().optional(),
    })
    .optional(),
});
export type Remembered = z.infer<typeof Remembered>;

const fileOf = (stateDirectory: string) => new StateFile(stateDirectory, "root.json");

/** Null when none is known. @throws CleaveError CONFIG_INVALID when it is damaged. */
export async function readRemembered(stateDirectory: string): Promise<Remembered | null> {
  const file = fileOf(stateDirectory);
  const text = await file.readIfPresent();
  if (text === null) return null;
  try {
    return Remembered.parse(JSON.parse(text));
  } catch (error) {
    throw new CleaveError(
      "CONFIG_INVALID",
      `${file.path} is damaged, so nobody knows which root was there: see that the right one is, then remove the file`,
      { cause: error },
    );
  }
}

export async function writeRemembered(stateDirectory: string, remembered: Remembered): Promise<void> {
  const file = fileOf(stateDirectory);
  await file.makeFolder();
  await file.replace(`${JSON.stringify(remembered)}\n`, { durable: true });
}

export async function removeRemembered(stateDirectory: string): Promise<void> {
  await fileOf(stateDirectory).remove();
}

/**
 * An operator's word: what is there now is the root from now on; with `losses`, what is gone from it is meant to be.
 * @throws CleaveError ROOT_UNREADABLE.
 */
export async function acceptRoot(
  root: IdentifiedRoot,
  stateDirectory: string,
  word: { readonly reason: string; readonly losses: boolean; readonly at: number },
): Promise<RootIdentity> {
  const before = await readRemembered(stateDirectory);
  const found = await root.identify();
  const lossesAt = word.losses ? word.at : before?.accepted?.lossesAt;
  const accepted = { at: word.at, reason: word.reason, ...(lossesAt === undefined ? {} : { lossesAt }) };
  await writeRemembered(stateDirectory, { ...found, accepted });
  return found;
}
