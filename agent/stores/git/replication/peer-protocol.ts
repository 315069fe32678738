/** What agents say to each other about repositories. Everything that arrives is checked against it. */
import { z } from "zod";
import { MigrationId } from "../../../../protocol/ids.ts";
import { RepositoryEntry } from "../inventory/repository-entry.ts";

export const PAGE_ENTRIES = 1_000;
export const MAX_WAIT_MS = 30_000;

/** `GET /git/changes`. With another incarnation, `since` means nothing and everything is answered. */
export const ChangesQuery = z.object({
  migration: MigrationId,
  incarnation: z.string().max(64).default(""),
  since: z.coerce.number().int().nonnegative().default(0),
  /** The fence whose end the asker knows; 0 for none. */
  epoch: z.coerce.number().int().nonnegative().default(0),
  /** How long to wait for news. */
  waitMs: z.coerce.number().int().min(0).max(MAX_WAIT_MS).default(0),
});
export type ChangesQuery = z.infer<typeof ChangesQuery>;

export const ChangesAnswer = z.object({
  incarnation: z.string().max(64),
  /** The source's newest. */
  generation: z.number().int().nonnegative(),
  /** What to ask with next; below `generation` when there is more. */
  next: z.number().int().nonnegative(),
  /** Of the fence whose end is known, else null. */
  fencedEpoch: z.number().int().nullable(),
  /** Whoever applied everything up to here has all that the fenced organizations have. */
  finalGeneration: z.number().int().nonnegative().nullable(),
  /** The source's evidence, for a target that differs and looks for what it is; never taken as its own. */
  finalDigest: z.string().max(500).nullable().default(null),
  entries: z.array(RepositoryEntry).max(PAGE_ENTRIES),
});
export type ChangesAnswer = z.infer<typeof ChangesAnswer>;

/** `GET /git/repositories/PATH/items`: one item a line, as JSON, sorted by the bytes of its name. */
export const ItemLine = z.strictObject({ name: z.string().max(5_000), value: z.string().max(5_000) });

/** A path as one segment of an address. */
export function repositoryAddress(agentUrl: string, path: string): string {
  return `${agentUrl}/git/repositories/${encodeURIComponent(path)}`;
}
