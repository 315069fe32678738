/** The `git` part of an agent's configuration. */
import { z } from "zod";
import { LossBound } from "../common/root/losses.ts";
import type { Limits } from "../common/verification/scrubbed.ts";

export const GitConfig = z.strictObject({
  /** The folder of all bare repositories. A path inside it is a repository's name. */
  root: z.string().min(1),
  /** The git program of the agent. Writers may use another one, 2.31 or newer. */
  program: z.string().min(1).default("git"),
  /** How fast copies are read back from the disk (the scrub of a target, and of what is dormant), in bytes per second. */
  verifyBytesPerSecond: z
    .number()
    .int()
    .positive()
    .default(64 * 1024 * 1024),
  /** The same, in repositories per second. */
  verifyRepositoriesPerSecond: z.number().positive().default(50),
  /** Pause between two such passes. */
  verifyPauseSeconds: z.number().positive().max(604_800).default(3_600),
  /** Every repository is looked at again within about this time, for changes that bypassed the hook. */
  sweepSeconds: z.number().positive().max(86_400).default(60),
  /** How often folders are listed for new repositories that no watch reported. */
  scanSeconds: z.number().positive().max(3_600).default(5),
  /** Paths below the root that are none of Cleave's business, as glob patterns. */
  ignore: z.array(z.string()).default(["+gitaly/**", "@pools/**", "**/*+deleted.git"]),
  /** What may be gone unannounced: more is not deleted elsewhere before an operator says so. */
  lossBound: LossBound.prefault({}),
  /**
   * What a check says when repositories that the database names are not there: `warn` names them, `refuse` refuses the
   * migration. When none of them is there it is refused in any case.
   */
  missing: z.enum(["warn", "refuse"]).default("warn"),
  /** Repositories that the database names and that need not be there, as glob patterns of their paths. */
  acceptMissing: z.array(z.string()).default([]),
  /**
   * Before Git 2.46 no hook sees a change of HEAD (`symbolic-ref`), so a held HEAD.lock refuses it in fenced
   * repositories. `auto`: where the agent's own git is older than that.
   */
  headLock: z.enum(["auto", "always", "never"]).default("auto"),
});
export type GitConfig = z.infer<typeof GitConfig>;
/** As written by an operator, before defaults are filled in. */
export type GitConfigInput = z.input<typeof GitConfig>;

/** What the scrub of a copy may take. Each repository is read by a process of its own. */
export function scrubLimits(config: GitConfig): Limits {
  return {
    bytesPerSecond: config.verifyBytesPerSecond,
    itemsPerSecond: config.verifyRepositoriesPerSecond,
    concurrency: 2,
    pauseMs: config.verifyPauseSeconds * 1_000,
    lookMs: config.sweepSeconds * 1_000,
  };
}

/** Where a Pod reaches the agents of the others. */
export interface Peer {
  /** For example `http://10.0.0.7:8101`. */
  readonly agentUrl: string;
  readonly token: string;
}
