/** What every part of the store works with. */
import type { PodId } from "../../../protocol/ids.ts";
import type { Ownership } from "../../../protocol/ownership.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Logger } from "../../../protocol/ports/logger.ts";
import type { PeerPostgres, PostgresConfig } from "./config.ts";

export interface PostgresStoreOptions {
  readonly podId: PodId;
  readonly config: PostgresConfig;
  /** Other Pods' servers, by Pod. A target needs its source's. */
  readonly peers: Readonly<Record<PodId, PeerPostgres>>;
  readonly ownership: Ownership;
  readonly clock: Clock;
  readonly log: Logger;
  /** The agent's own folder; the store uses `postgres/` in it. */
  readonly stateDirectory: string;
}
