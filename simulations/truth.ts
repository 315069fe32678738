/** What the log says at this very instant, whoever knows it already: the world's own fold. */
import { type Assignments, decodeAssignments } from "../protocol/assignments.ts";
import { type ClusterState, emptyCluster, type Migration } from "../protocol/cluster.ts";
import type { ReadRecord } from "../protocol/events.ts";
import { evolve } from "../protocol/evolve.ts";
import type { Digest, PodId } from "../protocol/ids.ts";
import { isOver } from "../protocol/migration-machine.ts";
import type { BlobServer } from "./models/blobs.ts";

export interface Authority {
  /** Who may acknowledge writes; null while nobody may. */
  readonly podId: PodId | null;
  readonly phase: "unclaimed" | "source" | "fenced" | "transferred" | "opened";
  readonly source: PodId;
  readonly target: PodId | null;
  readonly migration: Migration | null;
}

export class Truth {
  state: ClusterState = emptyCluster;
  /** `states[n]` is the fold of the first n records. */
  readonly states: ClusterState[] = [emptyCluster];
  readonly #blobs: BlobServer;
  #migrations: readonly Migration[] = [];
  readonly #assignments = new Map<Digest, Assignments>();

  constructor(blobs: BlobServer) {
    this.#blobs = blobs;
  }

  append(record: ReadRecord, sequence: number): void {
    this.state = evolve(this.state, record, sequence);
    this.states.push(this.state);
    this.#migrations = Object.values(this.state.migrations);
  }

  readonly assignmentsOf = (digest: Digest): Assignments => {
    const known = this.#assignments.get(digest);
    if (known) return known;
    const bytes = this.#blobs.content.get(digest);
    if (!bytes) throw new Error(`the log names a blob ${digest} that was never put`);
    const assignments = decodeAssignments(bytes, digest);
    this.#assignments.set(digest, assignments);
    return assignments;
  };

  /** Organizations whose newest writes an operator gave up by that record. */
  lostTo(record: ReadRecord): string[] {
    return record.events.flatMap((event) => {
      const migration =
        event.type === "TransferForced" ? this.state.migrations[event.migrationId] : undefined;
      return migration === undefined ? [] : [...this.assignments(migration).keys()];
    });
  }

  migrations(): readonly Migration[] {
    return this.#migrations;
  }

  assignments(migration: Migration): Assignments {
    return this.assignmentsOf(migration.assignments.digest);
  }

  authority(organization: string): Authority {
    const { state } = this;
    const base = state.defaultPodId as PodId;
    for (const migration of this.migrations().toReversed()) {
      const { lifecycle } = migration;
      if (isOver(lifecycle) && lifecycle !== "completed") continue;
      const target = this.assignments(migration).get(organization as never);
      if (target === undefined) continue;
      const phase = phaseOf(migration, target);
      if (lifecycle === "completed") {
        if (phase !== "opened") continue;
        return { podId: target, phase: "unclaimed", source: target, target: null, migration: null };
      }
      const source = migration.sourcePodId;
      const podId = phase === "source" ? source : phase === "opened" ? target : null;
      return { podId, phase, source, target, migration };
    }
    return { podId: base, phase: "unclaimed", source: base, target: null, migration: null };
  }
}

/** As docs/protocol.md has it, in the simulator's own words: the program's may be what is wrong. */
function phaseOf({ context }: Migration, target: PodId): "source" | "fenced" | "transferred" | "opened" {
  const { transfer, fenceUp, shares } = context;
  if (transfer === null) return fenceUp ? "fenced" : "source";
  if (shares[target] === "revoked") return "source";
  return shares[target] === "opened" ? "opened" : "transferred";
}
