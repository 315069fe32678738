/** The `objects` part of an agent's configuration. */
import { z } from "zod";
import { LossBound } from "../common/root/losses.ts";
import type { Limits } from "../common/verification/scrubbed.ts";

export const ObjectsConfig = z.strictObject({
  /** Folder that holds the objects: a key is a path below it. Not followed out of it by links. */
  root: z.string().min(1),
  /** How often all files' times are looked at: on a source for writers outside of the write protocol, of a copy for others. */
  sweepSeconds: z.number().positive().max(86_400).default(60),
  /** How fast copies are read back from the disk (the scrub of a target, and of what is dormant), in bytes per second. */
  verifyBytesPerSecond: z
    .number()
    .int()
    .positive()
    .default(128 * 1024 * 1024),
  /** The same, in objects per second. */
  verifyObjectsPerSecond: z.number().positive().default(2_000),
  /** Pause between two such passes. */
  verifyPauseSeconds: z.number().positive().max(604_800).default(600),
  /** What may be gone unannounced: more is not deleted elsewhere before an operator says so. */
  lossBound: LossBound.prefault({}),
  /**
   * What a check says when objects that the database names (`objectKeys` of ownership.yaml) are not there: `warn` names
   * them, `refuse` refuses the migration. When none of them is there it is refused in any case.
   */
  missing: z.enum(["warn", "refuse"]).default("warn"),
  /** Objects that the database names and that need not be there, as glob patterns of their keys. */
  acceptMissing: z.array(z.string()).default([]),
});
export type ObjectsConfig = z.infer<typeof ObjectsConfig>;
/** As written by an operator, before defaults are filled in. */
export type ObjectsConfigInput = z.input<typeof ObjectsConfig>;

/** What the scrub of a copy may take. */
export function scrubLimits(config: ObjectsConfig): Limits {
  return {
    bytesPerSecond: config.verifyBytesPerSecond,
    itemsPerSecond: config.verifyObjectsPerSecond,
    concurrency: 2,
    pauseMs: config.verifyPauseSeconds * 1_000,
    lookMs: config.sweepSeconds * 1_000,
  };
}

/** Another Pod's agent, as `peers` of the agent's configuration names it. */
export interface Peer {
  readonly agentUrl: string;
  readonly token: string;
}
