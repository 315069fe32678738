/** Reports between their short form in a state and the messages that production code reads. */

import { accept, noObservations, type Observations } from "../../coordinator/domain/observations.ts";
import type { ClusterState, Migration } from "../../protocol/cluster.ts";
import { cutoverWanted } from "../../protocol/cutover.ts";
import type { Goal } from "../../protocol/evidence.ts";
import type { Epoch, PodId } from "../../protocol/ids.ts";
import type { Report } from "../../protocol/messages.ts";
import { isOver } from "../../protocol/migration-machine.ts";
import { MIGRATION_ID, NOW, STORES } from "./cluster.ts";
import type { Model } from "./model.ts";
import type { Allowance, Heard, Said, Sent, Token } from "./state.ts";

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
    v: 2,
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
        : { [MIGRATION_ID]: { stores, preflight, dormantEpoch: 0 } },
  };
}

/** Two Pods have equal digests exactly when they speak of the same marker of the same write-ahead log. */
function evidenceOf(token: Token) {
  return { epoch: token.epoch as Epoch, digest: `marker ${token.marker}`, details: {} };
}

/** What a coordinator knows, through the production code that takes reports in. */
export function observationsOf(state: ClusterState, pods: readonly PodId[], heard: Heard): Observations {
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

/**
 * What of a report can still move a decision, or null. A report that can not is as good as lost, and the bus may
 * lose any; and decisions compare the sequence applied with that of the checks and that of the fence alone.
 */
export function useful(model: Model, state: ClusterState, said: Said, left: Allowance): Said | null {
  const migration = state.migrations[MIGRATION_ID] as Migration;
  const { lifecycle, context } = migration;
  if (context.transfer !== null || isOver(lifecycle)) return null;
  if (context.fenceUp && said.evidence !== null && said.applied >= (context.fence?.raisedSequence ?? 0))
    return { ...said, preflight: null, applied: context.fence?.raisedSequence ?? 0 };
  if (model.wrong === "evidence-of-any-epoch" && said.evidence !== null) return said;
  // While no fence can come any more, following and ready differ in nothing that anybody does.
  if (!cutoverWanted(migration) && left.approve === 0) return null;
  if (said.goal !== null && URGENT.includes(said.goal)) return null;
  if (!said.reached && said.preflight === null) return null;
  const checked = lifecycle === "preflight" && said.applied >= context.preflightSequence;
  return { ...said, evidence: null, applied: checked ? context.preflightSequence : 0 };
}

const URGENT: readonly Goal[] = ["fence", "match", "yield", "activate", "open", "release"];
