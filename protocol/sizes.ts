/** What organizations of a Pod measure: written by `cleave measure` beside it, read by `cleave plan --balance`. */
import { z } from "zod";
import { OrganizationId, PodId } from "./ids.ts";

const amount = z.number().nonnegative();

export const OrganizationSize = z.strictObject({
  id: OrganizationId,
  rows: amount,
  /** Their share of the tables' bytes, indexes and TOAST included. */
  rowBytes: amount,
  repositories: amount,
  repositoryBytes: amount,
  objects: amount,
  objectBytes: amount,
  /** Inserted or updated within the time watched; rows that were deleted leave no trace to count. */
  writesPerSecond: amount,
});
export type OrganizationSize = z.infer<typeof OrganizationSize>;

/** Rows of one organization that refer to rows of another by a foreign key. */
export const CrossReference = z.strictObject({
  from: OrganizationId,
  to: OrganizationId,
  rows: amount,
  /** `public.issues → public.projects` */
  where: z.string().max(300),
});
export type CrossReference = z.infer<typeof CrossReference>;

export const Sizes = z.strictObject({
  version: z.literal(1),
  podId: PodId,
  /** Milliseconds since 1970, when it was written. */
  at: z.number().int().nonnegative(),
  /** For how long writes were watched. */
  watchedMs: amount,
  /** The whole Pod, organizations and the rest: what a replica holds. */
  total: z.strictObject({ databaseBytes: amount, repositoryBytes: amount, objectBytes: amount }),
  /** WAL that the server wrote while writes were watched. */
  walBytesPerSecond: amount,
  /** A sample of rows copied out; null without rows to copy. */
  copy: z.strictObject({ bytes: amount, ms: amount, table: z.string() }).nullable(),
  organizations: z.array(OrganizationSize).max(2_000_000),
  references: z.array(CrossReference).max(1_000_000),
  /** What is an estimate, and what was left out. */
  notes: z.array(z.string().max(500)).max(1_000),
});
export type Sizes = z.infer<typeof Sizes>;
