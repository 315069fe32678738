/** What every checker may look at, and how it says that an invariant does not hold. */
import type { StoreName } from "../../protocol/ids.ts";
import type { Cluster } from "../processes/cluster.ts";
import type { Pod } from "../processes/pod.ts";
import type { Truth } from "../truth.ts";

export interface Facts {
  readonly truth: Truth;
  readonly cluster: Cluster;
  /** The first one ends the run. */
  readonly violated: (invariant: string, message: string) => void;
}

export const STORES: readonly StoreName[] = ["postgres", "git", "objects"];

/** What a store of a Pod has of an organization now. */
export function contentOf(pod: Pod, store: StoreName, organization: string): readonly string[] {
  if (store === "postgres") return pod.postgres.state.rows.get(organization) ?? [];
  return pod[store].writesOf(organization);
}
