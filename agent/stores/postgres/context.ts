/** What every part of the store works with. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { Epoch, PodId } from "../../../protocol/ids.ts";
import type { Ownership } from "../../../protocol/ownership.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Logger } from "../../../protocol/ports/logger.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { STORE_STATES } from "../../../protocol/wording.ts";
import type { PeerPostgres, PostgresConfig } from "./config.ts";
import type { Pace } from "./removal/pace.ts";

export interface PostgresStoreOptions {
  readonly podId: PodId;
  readonly config: PostgresConfig;
  /** Other Pods' servers, by Pod. A target needs its source's; for the way back, a source needs its targets'. */
  readonly peers: Readonly<Record<PodId, PeerPostgres>>;
  readonly ownership: Ownership;
  readonly clock: Clock;
  readonly log: Logger;
  /** The agent's own folder; the store uses `postgres/` in it. */
  readonly stateDirectory: string;
  /** Of the removal of dormant rows. Default: `PACE`. */
  readonly pace?: Pace;
}

/** The source's server, as this target uses it. @throws CleaveError CONFIG_INVALID */
export function peerOf(options: PostgresStoreOptions, { sourcePodId }: Duty): PeerPostgres {
  return peerNamed(options, sourcePodId);
}

/** @throws CleaveError CONFIG_INVALID */
export function peerNamed({ peers }: PostgresStoreOptions, podId: PodId): PeerPostgres {
  const peer = peers[podId];
  if (peer) return peer;
  throw new CleaveError("CONFIG_INVALID", `peers.${podId}.postgres is not configured`);
}

/** The fence that the duty is about. */
export function epochOf(duty: Duty): Epoch {
  if (duty.epoch === null) throw new CleaveError("INTERNAL", `${STORE_STATES[duty.goal]} without a fence`);
  return duty.epoch;
}
