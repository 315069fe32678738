/** May an organization be written on this Pod now? The four-phase table, read from the fence's files. */
import type { SharePhase } from "../../../protocol/cluster.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import { PodId } from "../../../protocol/ids.ts";
import { readIfPresent } from "./durable-files.ts";
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
  const paths = fencePaths(control);
  // A migration's routes are rewritten before its share file goes, so a missing share means: read the route again.
  for (let attempt = 0; attempt < 3; attempt++) {
    const [selfText, defaultText, routeText] = await Promise.all([
      readIfPresent(paths.self),
      readIfPresent(paths.defaultPod),
      readIfPresent(routeFile(control, hash)),
    ]);
    const self = PodId.safeParse(selfText?.trimEnd());
    const defaultPod = PodId.safeParse(defaultText?.trimEnd());
    if (!self.success || !defaultPod.success)
      throw new CleaveError("POD_IDENTITY_UNKNOWN", `${control} does not say which Pod this is`);
    const route =
      routeText === null
        ? { basePodId: defaultPod.data, migrationId: null, targetPodId: null }
        : parseRoute(routeText);
    if (route === null) throw new CleaveError("POD_IDENTITY_UNKNOWN", `the route ${hash} is damaged`);
    if (route.migrationId === null || route.targetPodId === null) {
      if (self.data === route.basePodId) return { allowed: true, phase: null };
      return { allowed: false, phase: null, reason: "wrong-pod", podId: route.basePodId };
    }
    const shares = await readIfPresent(shareFile(control, route.migrationId));
    if (shares === null) continue;
    const share = findShare(shares, route.targetPodId);
    if (share === null) break;
    return judge(self.data, { source: share.sourcePodId, target: share.targetPodId, phase: share.phase });
  }
  throw new CleaveError("POD_IDENTITY_UNKNOWN", `the share of the route ${hash} is missing or damaged`);
}
