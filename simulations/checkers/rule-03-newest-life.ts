/**
 * Rule 3, from outside: of what a coordinator has heard of a Pod, the word of its agent's newest life counts. Evidence of a
 * former life happens to stay true, because fences and copies outlive their agents; that is no reason to rely on it.
 */
import type { Report } from "../../protocol/messages.ts";
import type { Run } from "../models/host.ts";
import type { Checker } from "../observer.ts";
import type { Facts } from "./facts.ts";

interface Heard {
  readonly life: number;
  readonly incarnation: number;
}

export function newestLife({ cluster, violated }: Facts): Checker {
  /** By the coordinator's process and the Pod. */
  const newest = new WeakMap<Run, Map<string, Heard>>();

  const heard = (listener: Run, from: Run, report: Report) => {
    const { current } = cluster.coordinators.find(({ id }) => id === listener.host.id) ?? {};
    if (current?.run !== listener) return;
    const pods = newest.get(listener) ?? new Map<string, Heard>();
    newest.set(listener, pods);
    const known = pods.get(report.podId);
    const isNewer = known === undefined || from.life > known.life;
    if (isNewer) pods.set(report.podId, { life: from.life, incarnation: report.incarnation });
    // Nothing but a change of lives is looked at: composing a status for every report would take too long.
    if (!isNewer && from.life === known.life) return;
    const counted = current.coordinator.status().pods.find(({ podId }) => podId === report.podId);
    const who = `${listener.host.id} heard life ${from.life} of ${report.podId}`;
    if (isNewer && counted?.lastReportAgeMs !== 0) violated("rule 3", `${who}, and ignores its word`);
    if (counted?.incarnation !== pods.get(report.podId)?.incarnation)
      violated("rule 3", `${who}, and counts the word of a former one`);
  };
  cluster.servers.bus.heard = heard;
  return { invariant: "rule 3" };
}
