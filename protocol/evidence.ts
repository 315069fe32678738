/** What agents find and report: preflight findings, problems, store status and evidence. Plain data, bounded. */
import { z } from "zod";
import type { ErrorCode } from "./errors.ts";
import { Epoch, PodId, StoreName } from "./ids.ts";

/**
 * The code of an error as it is reported: one of `ERRORS`, or one that only a newer version of the writer knows.
 * A reader shows it and must not refuse the whole message for it, or a newer agent could not say what is wrong
 * while a cluster is being upgraded.
 */
export const ReportedCode = z.string().regex(/^[A-Z][A-Z0-9_]{1,59}$/);

const text = z.string().max(2_000);
/** Milliseconds since 1970 by the writer's clock. Compared only with tolerance; never orders anything. */
export const Timestamp = z.number().int().nonnegative();

/** One result of a preflight check. Any `error` refuses the migration before anything was changed. */
export const Finding = z.object({
  store: StoreName.nullable(),
  severity: z.enum(["error", "warning", "info"]),
  code: ReportedCode,
  message: text,
});
export type Finding = z.infer<typeof Finding>;

/** Something that keeps a store from reaching its goal now. The agent goes on trying. */
export const Problem = z.object({ code: ReportedCode, message: text });
export type Problem = z.infer<typeof Problem>;
/** One that this process found itself. */
export type OwnProblem = Problem & { readonly code: ErrorCode };

/**
 * Evidence of one store of one Pod at the fence of one epoch. Two stores match when their digests are equal;
 * a digest covers everything that the assigned organizations own there (neighbours go on writing to the source),
 * and an unreadable item makes evidence impossible (rule 11).
 * Source: taken after the fence is durable and the writers are drained (rule 4).
 * Target: taken after the source's marker of that epoch was applied (rule 5).
 */
export const Evidence = z.object({
  epoch: Epoch,
  digest: z.string().min(1).max(500),
  /** For people: positions, counts. Never compared. */
  details: z.record(z.string().max(100), z.union([z.string().max(500), z.number(), z.boolean()])),
});
export type Evidence = z.infer<typeof Evidence>;

/** When checks run: before anything was changed, right before the fence, before dormant data is removed. */
export const CheckStage = z.enum(["start", "fence", "removal"]);
export type CheckStage = z.infer<typeof CheckStage>;

/** What a store is asked to reach; see ports/store.ts for the meaning of each. */
export const Goal = z.enum([
  "prepare",
  "serve",
  "fence",
  "yield",
  "seed",
  "follow",
  "match",
  "activate",
  "open",
  "removeFiles",
  "removeRows",
  "release",
]);
export type Goal = z.infer<typeof Goal>;

/** How far a copy was read back from its disk, by other code than what wrote it. */
export const ScrubStatus = z.object({
  /** Repositories or objects of the copy. */
  items: z.number().int().nonnegative(),
  /** Of them changed, and not read back since. */
  unread: z.number().int().nonnegative(),
  /** Whole passes since the agent began with this copy. */
  passes: z.number().int().nonnegative(),
  /** Since the last of them ended, milliseconds by the agent's clock; null before the first. */
  passAgeMs: z.number().nonnegative().nullable(),
  /** Items that were found to be other than they were written. They are copied again. */
  damaged: z.number().int().nonnegative(),
  /** The last of them, and how it differed. */
  last: z.string().max(500).nullable(),
});
export type ScrubStatus = z.infer<typeof ScrubStatus>;

/** One target's way back, as the source's store sees it. */
export const ReverseReplicationStatus = z.object({
  /** As `lag` of StoreStatus: how far this Pod's dormant copy is behind the new authority. */
  lag: z.object({
    amount: z.number().nonnegative().nullable(),
    unit: z.enum(["bytes", "repositories", "objects"]),
  }),
  /** The copy was compared with the new authority's, and no difference is open. */
  verified: z.boolean(),
  problem: Problem.nullable(),
  scrub: ScrubStatus.optional(),
});
export type ReverseReplicationStatus = z.infer<typeof ReverseReplicationStatus>;

export const StoreStatus = z.object({
  goal: Goal,
  /** The goal is reached; for continuing goals (`serve`, `follow`): it was reached and is being kept. */
  reached: z.boolean(),
  /** Of the goals that take long: how far. `unit` is bytes, repositories or objects. */
  progress: z
    .object({ done: z.number().nonnegative(), total: z.number().nonnegative(), unit: z.string().max(20) })
    .nullable(),
  /** How far a target is behind its source: `null` amount means unknown, which is no (rule 11). Never from what was sent. */
  lag: z
    .object({
      amount: z.number().nonnegative().nullable(),
      unit: z.enum(["bytes", "repositories", "objects"]),
    })
    .nullable(),
  /** The background comparison has seen everything and found no difference that is still open. */
  verified: z.boolean(),
  /** Of a store that copies files and reads them back. */
  scrub: ScrubStatus.optional(),
  evidence: Evidence.nullable(),
  /** Of a source after the transfer: by target, what flows back from it. Absent where nothing does. */
  reverseReplication: z.record(PodId, ReverseReplicationStatus).optional(),
  /** Of a source: WAL that its disk has to keep for the slowest target. Of an open target: for the way back. */
  keptBytes: z.number().nonnegative().optional(),
  problems: z.array(Problem).max(50),
  /** Writers that were terminated or are still waited for at the fence, for the report to the operator. */
  stragglers: z.array(text).max(50),
});
export type StoreStatus = z.infer<typeof StoreStatus>;
