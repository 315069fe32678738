/**
 * What a source says of the way back is true at every instant: with the origin at a position, its dormant copy has what was
 * written on it before and what was written on the new authority up to there, so the stream was armed before anybody
 * could write. And while a rollback is transferred, nothing flows back from its Pod.
 */
import { type Migration, reverseReplicationOf } from "../../protocol/cluster.ts";
import type { PodId } from "../../protocol/ids.ts";
import type { Run } from "../models/host.ts";
import type { PostgresServer } from "../models/postgres/server.ts";
import { backSlotName } from "../models/postgres/slot-names.ts";
import type { Checker } from "../observer.ts";
import type { Facts } from "./facts.ts";
import { isRolledBack } from "./rolled-back.ts";

/** A write that was begun before its agent knew better. */
const IN_FLIGHT_MS = 500;

/** What was written on a server, by organization, up to a position of its WAL; of copies, others' WAL tells. */
class Past {
  #records = 0;
  #timeline = 0;
  end = 0;
  readonly rows = new Map<string, Set<string>>();

  goOn(server: PostgresServer, position: number): void {
    if (server.timeline !== this.#timeline || server.wal.length < this.#records) {
      this.#records = this.end = 0;
      this.#timeline = server.timeline;
      this.rows.clear();
    }
    for (
      let record = server.wal[this.#records];
      record && record.end <= position;
      record = server.wal[this.#records]
    ) {
      this.#records += 1;
      this.end = record.end;
      for (const change of record.changes) {
        if ((change.type === "row" && !change.copied) || change.type === "came")
          this.#of(change.organization).add(change.write);
        if (change.type === "remove")
          for (const { organization, write } of change.rows) this.#of(organization).delete(write);
      }
    }
  }

  #of(organization: string): Set<string> {
    const known = this.rows.get(organization) ?? new Set<string>();
    this.rows.set(organization, known);
    return known;
  }
}

export function reverseReplicationCopies({ truth, cluster, violated }: Facts): Checker {
  const { world } = cluster;
  const pasts = new Map<string, Past>();
  const looked = new Map<string, { version: number; origin: number }>();
  const held = new Map<string, { origin: number; run: Run | undefined; since: number }>();

  const look = (migration: Migration, podId: PodId) => {
    const { migrationId, sourcePodId } = migration;
    const name = backSlotName(migrationId, podId);
    const { postgres } = cluster.pod(sourcePodId);
    const origin = postgres.up ? postgres.state.origins.get(name) : undefined;
    if (origin === undefined) return;
    checkHeld(migration, podId, postgres, origin);
    const known = looked.get(name);
    if (known?.version === postgres.state.version && known.origin === origin) return;
    looked.set(name, { version: postgres.state.version, origin });
    const theirs = cluster.pod(podId).postgres;
    const past = pasts.get(name) ?? new Past();
    pasts.set(name, past);
    const before = pasts.get(sourcePodId) ?? new Past();
    pasts.set(sourcePodId, before);
    if (origin < past.end) return;
    past.goOn(theirs, origin);
    before.goOn(postgres, postgres.position);
    for (const [organization, target] of truth.assignments(migration)) {
      if (target !== podId || isRolledBack(truth, migration, organization)) continue;
      const expected = new Set([
        ...(before.rows.get(organization) ?? []),
        ...(past.rows.get(organization) ?? []),
      ]);
      const found = postgres.state.rows.get(organization) ?? [];
      if (found.length !== expected.size || found.some((write) => !expected.has(write)))
        violated(
          "way back",
          `${sourcePodId} says that it has what was written of ${organization} up to ${origin} of ${podId}, which are ${expected.size} rows, and has ${found.length}`,
        );
    }
  };

  /**
   * From when the source's own database knows of the transfer. An agent that began anew with an older fold goes on until
   * it has read of the transfer: what it may write then is others', as the gate sees to.
   */
  const checkHeld = (migration: Migration, podId: PodId, source: PostgresServer, origin: number) => {
    for (const rollback of truth.migrations()) {
      if (rollback.of !== migration.migrationId || rollback.sourcePodId !== podId) continue;
      const id = rollback.migrationId;
      const phase = source.state.shares.get(id)?.get(migration.sourcePodId)?.phase;
      const isOpening = rollback.lifecycle === "activating" && phase === "transferred";
      const current = cluster.pod(migration.sourcePodId).current;
      const known = held.get(id);
      if (!isOpening) held.delete(id);
      else if (known === undefined) held.set(id, { origin, run: current?.run, since: world.now });
      else if (known.run !== current?.run)
        held.set(id, { origin, run: current?.run, since: Number.POSITIVE_INFINITY });
      else if (known.since === Number.POSITIVE_INFINITY) {
        const knows = current?.agent.state.migrations[rollback.migrationId]?.context.transfer != null;
        held.set(id, { ...known, origin, since: knows ? world.now + IN_FLIGHT_MS : known.since });
      } else if (world.now < known.since) held.set(id, { ...known, origin });
      else if (known.origin !== origin)
        violated("way back", `${podId} flowed back to ${origin} while ${id} was opening`);
    }
  };

  return {
    invariant: "way back",
    afterEvent() {
      for (const migration of truth.migrations()) {
        if (migration.of !== null || migration.context.transfer === null) continue;
        for (const podId of reverseReplicationOf(migration))
          if (migration.context.shares[podId] === "opened") look(migration, podId);
      }
    },
  };
}
