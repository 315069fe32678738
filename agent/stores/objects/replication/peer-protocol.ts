/** What agents say to each other about objects, checked by schema on the reading side. */
import { z } from "zod";
import { Digest, Epoch } from "../../../../protocol/ids.ts";
import type { ObjectAccess } from "../backend/backend.ts";

/** Entries of one answer. */
export const PAGE_ENTRIES = 5_000;
/** The longest a question for changes is held. */
export const MAX_WAIT_MS = 20_000;

/** `GET /objects/changes?migration=&incarnation=&since=&epoch=&waitMs=` */
export const ChangesQuery = z.object({
  migration: z.string(),
  /** Of the last answer; another one than the source's means `since` counts as 0. */
  incarnation: z.string().max(100).default(""),
  since: z.coerce.number().int().nonnegative().default(0),
  /** The last fence whose final generation the asker knows; 0 for none. Another one is answered at once. */
  epoch: z.coerce.number().int().nonnegative().default(0),
  waitMs: z.coerce.number().int().nonnegative().max(MAX_WAIT_MS).default(0),
});

/**
 * `entries` are the changes after `since`, oldest first. Then ask with `since: next`. `remaining` is at least the
 * number of changes that were not in this answer. While a fence's final generation is set nothing later is told.
 */
export const ChangesAnswer = z.object({
  incarnation: z.string(),
  generation: z.number().int().nonnegative(),
  next: z.number().int().nonnegative(),
  remaining: z.number().int().nonnegative(),
  /** All objects of the source, for progress. */
  objects: z.number().int().nonnegative(),
  bytes: z.number().nonnegative(),
  fencedEpoch: Epoch.nullable(),
  finalGeneration: z.number().int().nonnegative().nullable(),
  /** The source's evidence: a target that differs looks through everything again. Never taken as its own evidence. */
  finalDigest: z.string().nullable(),
  entries: z
    .array(
      z.object({
        key: z.string(),
        bytes: z.number().int().nonnegative(),
        sha256: z.union([Digest, z.literal("")]),
        deleted: z.boolean(),
      }),
    )
    .max(PAGE_ENTRIES),
});
export type ChangesAnswer = z.infer<typeof ChangesAnswer>;

/** `GET /objects/summary`: what a target has to find room for. */
export const SummaryAnswer = z.object({ objects: z.number().nonnegative(), bytes: z.number().nonnegative() });
export type SummaryAnswer = z.infer<typeof SummaryAnswer>;

/** Beside the content: who may do what with it and with the folders above, from the root on. */
export const ACCESS_HEADER = "x-cleave-access";

export function renderAccess({ folders, ...file }: ObjectAccess): string {
  return [file, ...folders].map(({ mode, uid, gid }) => `${mode.toString(8)} ${uid} ${gid}`).join(";");
}

/** Null for none, and for what is none. */
export function parseAccess(text: string): ObjectAccess | null {
  const parsed = text.split(";").map((part) => /^([0-7]{1,4}) (\d{1,10}) (\d{1,10})$/.exec(part));
  const all = parsed.flatMap((match) =>
    match === null
      ? []
      : [{ mode: Number.parseInt(match[1] ?? "", 8), uid: Number(match[2]), gid: Number(match[3]) }],
  );
  const [file, ...folders] = all;
  return file === undefined || all.length !== parsed.length ? null : { ...file, folders };
}
