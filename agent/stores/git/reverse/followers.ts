/** On a source that yields: what its organizations' new Pods change comes into the copies that stay here dormant. */
import type { OrganizationId, PodId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { Followers } from "../../common/reverse/followers.ts";
import { organizationHash } from "../../file-fence/layout.ts";
import { scrubLimits } from "../config.ts";
import { type GitContext, ownersOf } from "../context.ts";
import { Mirror, type MirrorOptions } from "../replication/mirror.ts";
import { Replica } from "../replication/replica.ts";
import { SourceFeed } from "../replication/source-feed.ts";
import { GitScrub } from "../verification/scrub.ts";

/** No two mirrors of one Pod have the same. */
export function mirrorName({ migrationId }: Duty, from?: PodId): string {
  return from === undefined ? `copy-${migrationId}` : `back-${migrationId}-${from}`;
}

/**
 * Mirrors into copies that this Pod had before: they carry no mark, so whose they are says what may be changed, by the
 * fence's word (which is what writers go by) or else by the rules.
 */
export function dormantMirror(
  context: GitContext,
  feed: SourceFeed,
  organizations: Iterable<OrganizationId>,
  options: Pick<MirrorOptions, "name" | "locks">,
): Mirror {
  const { fence, ownerLookup } = context;
  const ids = new Set(organizations);
  const hashes = new Set([...ids].map((id) => organizationHash(id)));
  const isOurs = async (path: string) => {
    const hash = await fence.ownerOf(path);
    if (hash !== null) return hashes.has(hash);
    const organizationId = await ownerLookup.repository(path);
    return organizationId !== null && ids.has(organizationId);
  };
  return new Mirror(context, feed, { ...options, mark: null, isOurs });
}

/** `track` resolves when this Pod's own inventory is complete. */
export function gitFollowers(context: GitContext, track: () => Promise<void>): Followers {
  const { backend, inventory, peers, claims, clock, changed } = context;
  return new Followers({
    unit: "repositories",
    clock,
    claims,
    changed,
    track,
    follow: async ({ duty, podId, organizations }, signal) => {
      const feed = new SourceFeed(podId, peers[podId]);
      await backend.prepareHook();
      const options = { name: mirrorName(duty, podId), locks: await backend.headLocks() };
      const mirror = dormantMirror(context, feed, organizations, options);
      await mirror.prepare();
      signal.throwIfAborted();
      const view = inventory.view(ownersOf(organizations));
      const replica: Replica = new Replica({
        context,
        feed,
        mirror,
        migrationId: duty.migrationId,
        source: podId,
        selective: true,
        view,
        watchOwn: true,
        concurrency: duty.settings.rateLimits.gitConcurrency,
        onChange: () => {
          if (replica.seeded) scrub.start();
          changed();
        },
      });
      const limits = scrubLimits(context.config);
      const recheck = () => replica.recheck();
      const scrub: GitScrub = new GitScrub({
        context,
        replica,
        view,
        selective: true,
        limits,
        onChange: recheck,
      });
      return {
        get lag() {
          return replica.lag;
        },
        get verified() {
          return replica.verified && scrub.verified;
        },
        scrub: () => scrub.status(),
        problems: () => replica.problems(),
        close: async () => {
          await Promise.all([scrub.stop(), replica.close()]);
          await mirror.prepare().catch(() => undefined);
          inventory.dropView(view);
        },
      };
    },
  });
}
