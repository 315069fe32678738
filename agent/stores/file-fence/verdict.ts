/** May an organization be written on this Pod now? The four-phase table, read from the fence's files. */

import { readIfPresent } from "../../../protocol/adapters/durable-files.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import { PodId } from "../../../protocol/ids.ts";
import { fencePaths, findShare, organizationHash, parseRoute, routeFile, shareFile } from "./layout.ts";

export type Verdict =
  | { readonly allowed: true; readonly phase: SharePhase | null }
  /** `fenced` and `opening` pass; `wrong-pod`: `podId` is the right one. `podId` is always the authoritative Pod. */
  | {
      readonly allowed: false;
      readonly phase: SharePhase | null;
      readonly reason: "fenced" | "opening" | "wrong-pod";
      readonly podId: PodId;
    };

/** The table of ARCHITECTURE.md; pure. */
export function judge(self: PodId, share: { source: PodId; target: PodId; phase: SharePhase }): Verdict {
  const { source, target, phase } = share;
  const wrong = (podId: PodId): Verdict => ({ allowed: false, phase, reason: "wrong-pod", podId });
  switch (phase) {
    case "source":
      return self === source ? { allowed: true, phase } : wrong(source);
    case "fenced":
      return self === source ? { allowed: false, phase, reason: "fenced", podId: source } : wrong(source);
    case "transferred":
      return self === target ? { allowed: false, phase, reason: "opening", podId: target } : wrong(target);
    case "opened":
      return self === target ? { allowed: true, phase } : wrong(target);
  }
}

/**
 * What the fence says about an organization now. A writer has to have created its `inflight` file before.
 * @throws CleaveError POD_IDENTITY_UNKNOWN when the files do not answer: unknown is no.
 */
export function readPhase(control: string, organizationId: string): Promise<Verdict> {
  return readPhaseOfHash(control, organizationHash(organizationId));
}

/** The same for an organization that is known by its hash only (`owners/git`). */
export async function readPhaseOfHash(control: string, hash: string): Promise<Verdict> {
  // A migration's routes are rewritten before its share file goes, so a missing share means: read the route again.
  for (let attempt = 0; attempt < 3; attempt++) {
    const { self, defaultPodId } = await identityOf(control);
    const routeText = await readIfPresent(routeFile(control, hash));
    const route =
      routeText === null
        ? { basePodId: defaultPodId, migrationId: null, targetPodId: null }
        : parseRoute(routeText);
    if (route === null) throw new CleaveError("POD_IDENTITY_UNKNOWN", `the route ${hash} is damaged`);
    if (route.migrationId === null || route.targetPodId === null) {
      if (self === route.basePodId) return { allowed: true, phase: null };
      return { allowed: false, phase: null, reason: "wrong-pod", podId: route.basePodId };
    }
    const shares = await readIfPresent(shareFile(control, route.migrationId));
    if (shares === null) continue;
    const share = findShare(shares, route.targetPodId);
    if (share === null) break;
    return judge(self, { source: share.sourcePodId, target: share.targetPodId, phase: share.phase });
  }
  throw new CleaveError("POD_IDENTITY_UNKNOWN", `the share of the route ${hash} is missing or damaged`);
}

interface Identity {
  readonly self: PodId;
  readonly defaultPodId: PodId;
}

/** Neither file ever changes once it is there, so a writer reads them once. */
const identities = new Map<string, Identity>();

async function identityOf(control: string): Promise<Identity> {
  const known = identities.get(control);
  if (known !== undefined) return known;
  const paths = fencePaths(control);
  const self = PodId.safeParse((await readIfPresent(paths.self))?.trimEnd());
  const defaultPod = PodId.safeParse((await readIfPresent(paths.defaultPod))?.trimEnd());
  if (!self.success || !defaultPod.success)
    throw new CleaveError("POD_IDENTITY_UNKNOWN", `${control} does not say which Pod this is`);
  const identity = { self: self.data, defaultPodId: defaultPod.data };
  identities.set(control, identity);
  return identity;
}
