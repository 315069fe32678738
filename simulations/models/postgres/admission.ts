/** The write guard inside the server: may this transaction write for that organization, as the staged shares say? */
import type { PodId } from "../../../protocol/ids.ts";
import { newestFirst, type PostgresState } from "./state.ts";
import type { Refusal, Transaction } from "./transaction.ts";

/** What the guard looks at. */
export interface GuardedServer {
  readonly clusterName: PodId;
  readonly defaultPodId: PodId;
  readonly state: PostgresState;
  isFencing(migrationId: string): boolean;
}

export interface Admission {
  readonly refusal: Refusal | null;
  /** The move whose writers note what they touch. */
  readonly logical: string | null;
}

export function admit(server: GuardedServer, transaction: Transaction, organization: string): Admission {
  const refused = (refusal: Refusal): Admission => ({ refusal, logical: null });
  const snapshot = transaction.snapshot as number;
  for (const [migrationId, { assignments, stagedAt, logical }] of newestFirst(server.state.routes)) {
    const target = assignments.get(organization as never);
    // A snapshot from before the staging does not see the route: staging waits for such transactions.
    if (target === undefined || stagedAt > snapshot) continue;
    if (server.isFencing(migrationId)) return refused({ outcome: "fenced" });
    const share = server.state.shares.get(migrationId)?.get(target);
    if (!share) return refused({ outcome: "fenced" });
    transaction.locks.add(migrationId);
    if (transaction.isolation !== "read committed" && share.changedAt > snapshot)
      return refused({ outcome: "serialization" });
    const { phase, source } = share;
    if (phase === "source" && source === server.clusterName)
      return { refusal: null, logical: logical ? migrationId : null };
    if (phase === "opened" && target === server.clusterName) return { refusal: null, logical: null };
    if ((phase === "transferred" || phase === "opened") && target !== server.clusterName)
      return refused({ outcome: "wrongPod", podId: target });
    if ((phase === "source" || phase === "fenced") && source !== server.clusterName)
      return refused({ outcome: "wrongPod", podId: source });
    return refused({ outcome: "fenced" });
  }
  const base = server.state.base.get(organization) ?? server.defaultPodId;
  return server.clusterName === base
    ? { refusal: null, logical: null }
    : refused({ outcome: "wrongPod", podId: base });
}
