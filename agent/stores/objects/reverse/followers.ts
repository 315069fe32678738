/** On a source that yields: what its organizations' new Pods change comes into the objects that stay here dormant. */
import { CleaveError } from "../../../../protocol/errors.ts";
import { RateLimit } from "../../common/rate-limit.ts";
import { Followers } from "../../common/reverse/followers.ts";
import { scrubLimits } from "../config.ts";
import { isShared, type ObjectsContext, ownedBy } from "../context.ts";
import type { SourceTracker } from "../inventory/tracker.ts";
import { Replica } from "../replication/replica.ts";
import { PeerClient } from "../replication/source-feed.ts";
import { Verification } from "../verification/scrub.ts";

/** What is shared is added as in a move, and never removed or replaced: this Pod has its own of it. */
export function objectFollowers(context: ObjectsContext, tracker: SourceTracker): Followers {
  const { podId: self, peers, backend, config, ownerLookup, claims, clock, log, changed } = context;
  return new Followers({
    unit: "objects",
    clock,
    claims,
    changed,
    track: () => tracker.start(),
    follow: async ({ duty, podId, organizations }, signal) => {
      const peer = peers[podId];
      if (peer === undefined)
        throw new CleaveError("PEER_UNREACHABLE", `the configuration of ${self} has no peer ${podId}`);
      const inventory = await context.inventory();
      signal.throwIfAborted();
      const client = new PeerClient(peer);
      const inScope = ownedBy(organizations, ownerLookup);
      const { objectBytesPerSecond, objectConcurrency } = duty.settings.rateLimits;
      const onChange = () => {
        if (replica.baseCopied) verification.start();
        changed();
      };
      const replica = new Replica({
        migrationId: duty.migrationId,
        backend,
        root: context.root,
        lossBound: config.lossBound,
        inventory,
        client,
        clock,
        log,
        rateLimit: new RateLimit(clock, objectBytesPerSecond),
        concurrency: objectConcurrency,
        inScope,
        isShared: (key) => isShared(ownerLookup, key),
        selective: true,
        tracked: (key, change) => tracker.inTurn(key, change),
        onChange,
      });
      const verification = new Verification({
        backend,
        inventory,
        replica,
        clock,
        log,
        memory: context.scrubbed,
        limits: scrubLimits(config),
        isCopy: inScope,
        inScope,
        isForeign: () => false,
        onChange,
      });
      replica.start();
      return {
        get lag() {
          return replica.lag();
        },
        get verified() {
          return verification.verified;
        },
        scrub: () => verification.status(),
        problems: () => [...replica.problems(), ...verification.problems()],
        close: async () => {
          await Promise.all([replica.stop(), verification.stop()]);
          await client.close();
        },
      };
    },
  });
}
