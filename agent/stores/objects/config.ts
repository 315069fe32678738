/** The `objects` part of an agent's configuration. */
import { z } from "zod";
import { LossBound } from "../common/root/losses.ts";

export const ObjectsConfig = z.strictObject({
  /** Folder that holds the objects: a key is a path below it. Not followed out of it by links. */
  root: z.string().min(1),
  /** How often the source's files are listed to find writers outside of the write protocol. */
  sweepSeconds: z.number().positive().max(86_400).default(60),
  /** How fast a target reads its copies again to find corruption, in bytes per second. */
  verifyBytesPerSecond: z
    .number()
    .int()
    .positive()
    .default(128 * 1024 * 1024),
  /** Pause between two such passes. */
  verifyPauseSeconds: z.number().positive().max(604_800).default(600),
  /** What may be gone unannounced: more is not deleted elsewhere before an operator says so. */
  lossBound: LossBound.prefault({}),
});
export type ObjectsConfig = z.infer<typeof ObjectsConfig>;
/** As written by an operator, before defaults are filled in. */
export type ObjectsConfigInput = z.input<typeof ObjectsConfig>;

/** Another Pod's agent, as `peers` of the agent's configuration names it. */
export interface Peer {
  readonly agentUrl: string;
  readonly token: string;
}
