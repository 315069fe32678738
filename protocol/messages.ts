/** Messages over the bus (core NATS): never replayed, never truth (rule 3). */
import { z } from "zod";
import { CheckStage, Finding, Problem, StoreStatus, Timestamp } from "./evidence.ts";
import { MigrationId, PodId, StoreName } from "./ids.ts";

/** What an agent says of one migration that it takes part in. */
export const MigrationReport = z.object({
  stores: z.partialRecord(StoreName, StoreStatus),
  /** The newest complete run of the checks, or null while none is complete. `stage` says which run it was. */
  preflight: z.object({ stage: CheckStage, at: Timestamp, findings: z.array(Finding).max(200) }).nullable(),
  /** The guard refuses the transferred organizations here since this epoch's transfer was applied (rule 12). */
  dormantEpoch: z.number().int().nonnegative(),
});
export type MigrationReport = z.infer<typeof MigrationReport>;

export const Report = z.object({
  v: z.literal(2),
  podId: PodId,
  /** Grows with every start of the Pod's agent. */
  incarnation: z.number().int().positive(),
  /** Grows with every report of one incarnation. */
  reportSequence: z.number().int().positive(),
  /** Last record of the log that the agent had folded and made durable when it made this report. */
  appliedSequence: z.number().int().nonnegative(),
  at: Timestamp,
  software: z.string().max(50),
  /** The agent met an event that it does not know, and says so (rule 13). */
  notUnderstood: z.string().max(500).nullable(),
  migrations: z.record(MigrationId, MigrationReport),
  /** What is wrong with the Pod itself, whether it takes part in anything or not. Absent while nothing is. */
  problems: z.array(Problem).max(50).optional(),
});
export type Report = z.infer<typeof Report>;
