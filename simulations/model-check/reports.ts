/** Reports between their short form in a state and the messages that production code reads. */
import type { Observations } from "../../coordinator/domain/observations.ts";
import { accept, noObservations } from "../../coordinator/domain/observations.ts";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { Epoch, PodId } from "../../protocol/ids.ts";
import type { Report } from "../../protocol/messages.ts";
import { MIGRATION_ID, NOW, STORES } from "./cluster.ts";
import type { Sent, Token } from "./state.ts";

export function messageOf(podId: PodId, { order, said }: Sent): Report {
  const stores = Object.fromEntries(
    said.goal === null
      ? []
      : STORES.map((store) => [
          store,
          {
            goal: said.goal,
            reached: said.reached,
            progress: null,
            lag: { amount: 0, unit: "bytes" },
            verified: true,
            evidence: said.evidence && evidenceOf(said.evidence),
            problems: [],
            stragglers: [],
          },
        ]),
  ) as Report["migrations"][typeof MIGRATION_ID]["stores"];
  const preflight = said.preflight && { stage: said.preflight, at: NOW, findings: [] };
  return {
    v: 1,
    podId,
    incarnation: 1,
    reportSequence: order + 1,
    appliedSequence: said.applied,
    at: NOW,
    software: "model",
    notUnderstood: null,
    migrations:
      said.goal === null && preflight === null
        ? {}
        : { [MIGRATION_ID]: { stores, preflight, dormantEpoch: said.dormantEpoch } },
  };
}

/** Two Pods have equal digests exactly when they speak of the same marker of the same write-ahead log. */
function evidenceOf(token: Token) {
  return { epoch: token.epoch as Epoch, digest: `marker ${token.marker}`, details: {} };
}

/** What a coordinator knows, through the production code that takes reports in. */
export function observationsOf(
  state: ClusterState,
  pods: readonly PodId[],
  heard: readonly (Sent | null)[],
): Observations {
  let observations = noObservations;
  heard.forEach((sent, index) => {
    if (sent) observations = accept(observations, state, messageOf(pods[index] as PodId, sent), NOW);
  });
  return observations;
}

/** Would production take `sent` in after `known`? Asked of `accept` itself. */
export function isAccepted(state: ClusterState, podId: PodId, known: Sent | null, sent: Sent): boolean {
  try {
    const before =
      known === null ? noObservations : accept(noObservations, state, messageOf(podId, known), NOW);
    accept(before, state, messageOf(podId, sent), NOW);
    return true;
  } catch {
    return false;
  }
}
