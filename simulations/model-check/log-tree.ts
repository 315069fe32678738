/** Every log that an exploration meets, as a tree: each record is folded once, by the production `evolve`. */
import { type ClusterState, emptyCluster, type Migration } from "../../protocol/cluster.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import { evolve } from "../../protocol/evolve.ts";
import type { PodId } from "../../protocol/ids.ts";
import { MIGRATION_ID, NOW } from "./cluster.ts";

export interface LogNode {
  readonly id: number;
  /** Folded states of every prefix; `states[n]` has sequence n, the last one is the whole log. */
  readonly states: readonly ClusterState[];
  readonly events: readonly ClusterEvent[];
  readonly parent: LogNode | null;
  /** What was said in this log, whether or not the fold took notice of it: a decision stands for whoever reads it. */
  readonly said: Said;
}

interface Said {
  readonly aborted: boolean;
  readonly transferred: boolean;
  readonly opened: readonly PodId[];
  readonly revoked: readonly PodId[];
}

export class LogTree {
  readonly nodes: LogNode[] = [
    {
      id: 0,
      states: [emptyCluster],
      events: [],
      parent: null,
      said: { aborted: false, transferred: false, opened: [], revoked: [] },
    },
  ];
  readonly #children = new Map<string, LogNode>();

  at(id: number): LogNode {
    return this.nodes[id] as LogNode;
  }

  /** The log with one record more. */
  append(parent: LogNode, by: string, decided: readonly ClusterEvent[]): LogNode {
    const events = withoutReasons(decided);
    const key = `${parent.id}${JSON.stringify(events)}`;
    const known = this.#children.get(key);
    if (known) return known;
    const before = headOf(parent);
    const after = evolve(before, { at: NOW, by, events }, before.sequence + 1);
    const node = {
      id: this.nodes.length,
      states: [...parent.states, after],
      events,
      parent,
      said: heard(parent.said, events),
    };
    this.nodes.push(node);
    this.#children.set(key, node);
    return node;
  }
}

function heard(before: Said, events: readonly ClusterEvent[]): Said {
  const of = (type: "Opened" | "TransferRevoked") =>
    events.flatMap((event) => (event.type === type ? [event.podId] : []));
  const has = (type: ClusterEvent["type"]) => events.some((event) => event.type === type);
  return {
    aborted: before.aborted || has("MigrationAborted"),
    transferred: before.transferred || has("AuthorityTransferred"),
    opened: [...before.opened, ...of("Opened")],
    revoked: [...before.revoked, ...of("TransferRevoked")],
  };
}

export function headOf(node: LogNode): ClusterState {
  return node.states.at(-1) as ClusterState;
}

/** The migration as a process sees it that has folded `sequence` records. */
export function migrationAt(node: LogNode, sequence: number): Migration {
  return (node.states[sequence] as ClusterState).migrations[MIGRATION_ID] as Migration;
}

/** Reasons are for people: they decide nothing and would multiply states. */
export function withoutReasons(events: readonly ClusterEvent[]): readonly ClusterEvent[] {
  return events.map((event) => {
    if (event.type === "ReplicasFellBehind") return { ...event, reasons: [] };
    return "reason" in event && event.reason !== "" ? { ...event, reason: "" } : event;
  });
}
