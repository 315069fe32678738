/** I5: organizations that are not in the migration see no refused access. (That no row of theirs changes: I1, I2.) */
import type { Checker } from "../observer.ts";
import type { Facts } from "./facts.ts";

export function untouchedNeighbours({ truth, cluster, violated }: Facts): Checker {
  return {
    invariant: "I5",
    refused(podId, organization, outcome) {
      // An agent that has just started and has no checkpoint knows nobody yet; that is an outage, not a fence.
      if (cluster.assignments.has(organization) || outcome === "unknownIdentity") return;
      // Asked at a Pod that never had them.
      if (truth.authority(organization).podId !== podId) return;
      violated("I5", `${podId} refused ${organization}, which stays where it is: ${outcome}`);
    },
  };
}
