/**
 * A source's way back in a store of files: one follower for each new Pod from which something flows back. Each begins
 * behind the duty's goal, tries again what fails, and works on organizations of which nobody else has the copy in hand.
 */
import { toCleaveError } from "../../../../protocol/errors.ts";
import type {
  Problem,
  ReverseReplicationStatus,
  ScrubStatus,
  StoreStatus,
} from "../../../../protocol/evidence.ts";
import type { OrganizationId, PodId } from "../../../../protocol/ids.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { orAborted } from "../or-aborted.ts";
import { type Claims, flowsBack } from "./claims.ts";

const RETRY_MS = 1_000;

/** What is followed from one Pod. */
export interface Share {
  readonly duty: Duty;
  readonly podId: PodId;
  readonly organizations: ReadonlySet<OrganizationId>;
}

/** A copy that runs. */
export interface Following {
  readonly lag: number | null;
  readonly verified: boolean;
  scrub(): ScrubStatus;
  problems(): readonly Problem[];
  close(): Promise<void>;
}

export interface FollowersOptions {
  readonly unit: ReverseReplicationStatus["lag"]["unit"];
  readonly clock: Clock;
  readonly claims: Claims;
  readonly changed: () => void;
  /** Resolves when this Pod's own inventory is complete: before that everything would look as if it were missing. */
  readonly track: () => Promise<void>;
  readonly follow: (share: Share, signal: AbortSignal) => Promise<Following>;
}

export class Followers {
  readonly #options: FollowersOptions;
  readonly #followers = new Map<PodId, Follower>();

  constructor(options: FollowersOptions) {
    this.#options = options;
  }

  /** Ends what does not flow back any more when it resolves; what is the same goes on as it is. */
  async update(duty: Duty): Promise<void> {
    const wanted = flowsBack(duty);
    for (const [podId, follower] of this.#followers) {
      if (follower.follows(wanted.get(podId))) continue;
      this.#followers.delete(podId);
      await follower.close();
    }
    for (const [podId, organizations] of wanted)
      if (!this.#followers.has(podId))
        this.#followers.set(podId, new Follower(this.#options, { duty, podId, organizations }));
  }

  status(): Pick<StoreStatus, "reverseReplication"> {
    if (this.#followers.size === 0) return {};
    const reverseReplication: Record<PodId, ReverseReplicationStatus> = {};
    for (const [podId, follower] of this.#followers) reverseReplication[podId] = follower.status();
    return { reverseReplication };
  }

  async close(): Promise<void> {
    const followers = [...this.#followers.values()];
    this.#followers.clear();
    await Promise.all(followers.map((follower) => follower.close()));
  }
}

class Follower {
  readonly #options: FollowersOptions;
  readonly #share: Share;
  readonly #stopping = new AbortController();
  readonly #work: Promise<void>;
  #following: Following | null = null;
  #problem: Problem | null = null;

  constructor(options: FollowersOptions, share: Share) {
    this.#options = options;
    this.#share = share;
    this.#work = this.#begin();
  }

  follows(organizations: ReadonlySet<OrganizationId> | undefined): boolean {
    const own = this.#share.organizations;
    return organizations?.size === own.size && [...organizations].every((id) => own.has(id));
  }

  status(): ReverseReplicationStatus {
    const following = this.#following;
    return {
      lag: { amount: following?.lag ?? null, unit: this.#options.unit },
      verified: following?.verified ?? false,
      problem: following === null ? this.#problem : (following.problems()[0] ?? null),
      ...(following === null ? {} : { scrub: following.scrub() }),
    };
  }

  async close(): Promise<void> {
    this.#stopping.abort(new Error("nothing flows back any more"));
    await this.#work;
    await this.#following?.close();
    this.#options.claims.release(this);
  }

  async #begin(): Promise<void> {
    const { track, claims, follow, clock, changed } = this.#options;
    const { signal } = this.#stopping;
    while (this.#following === null && !signal.aborted) {
      try {
        await orAborted(track(), signal);
        await claims.take(this.#share.organizations, this, signal);
        this.#following = await follow(this.#share, signal);
      } catch (thrown) {
        if (signal.aborted) return;
        const { code, message } = toCleaveError(thrown, "PEER_UNREACHABLE");
        this.#problem = { code, message: message.slice(0, 2_000) };
        await clock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
      changed();
    }
  }
}
