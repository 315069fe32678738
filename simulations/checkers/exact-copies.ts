/**
 * What a move's target says of its copy is true at every instant: with the origin at a position, it has exactly the rows
 * that the source had there. (Rule 11's comparison would find most of what breaks this, later and by other means; so it
 * is looked at from outside.) A copy that a fault damaged is for the comparison to find.
 */
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import type { PostgresServer } from "../models/postgres/server.ts";
import { slotName } from "../models/postgres/slot-names.ts";
import type { WalRecord } from "../models/postgres/state.ts";
import type { Checker } from "../observer.ts";
import { SOURCE } from "../processes/cluster.ts";
import type { Facts } from "./facts.ts";

const REMOVED: ReadonlySet<Lifecycle> = new Set(["aborted", "cleaning", "completed"]);

export function exactCopies({ truth, cluster, violated }: Facts): Checker {
  /** The source's rows of the organizations up to a position, as its WAL has them. */
  const past = { records: 0, end: 0, rows: new Map<string, number>() };
  let version = -1;
  let origin: number | undefined;
  /** What the source need not stream again. */
  let confirmed = 0;

  /** Between two positions there is something for the organizations. */
  const brings = (source: PostgresServer, from: number, to: number): boolean => {
    for (let i = source.flushed - 1; i >= 0; i--) {
      const { end, changes } = source.wal[i] as WalRecord;
      if (end <= from) return false;
      if (end > to) continue;
      const found = changes.some(
        (change) => change.type === "row" && cluster.assignments.has(change.organization),
      );
      if (found) return true;
    }
    return false;
  };

  const goOn = (source: PostgresServer, position: number) => {
    for (
      let record = source.wal[past.records];
      record && record.end <= position;
      record = source.wal[past.records]
    ) {
      past.records += 1;
      past.end = record.end;
      for (const change of record.changes)
        if (change.type === "row" || change.type === "came")
          past.rows.set(change.organization, (past.rows.get(change.organization) ?? 0) + 1);
    }
  };

  return {
    invariant: "exact copy",
    afterEvent() {
      const [target] = cluster.destinations;
      if (cluster.past === null || target === undefined) return;
      const { postgres } = cluster.pod(target);
      const source = cluster.pod(SOURCE).postgres;
      if (!postgres.up || postgres.damaged || source.logical.lost.size > 0) return;
      const migration = truth.migrations().at(-1);
      if (migration?.kind !== "move" || migration.context.shares[target] === "opened") return;
      // Rows go first and the origin last, so that a removal which is cut off is begun again.
      if (REMOVED.has(migration.lifecycle)) return;
      const slot = slotName(migration.migrationId, target);
      const position = postgres.state.origins.get(slot);
      const told = source.logical.slots.get(slot)?.confirmed ?? 0;
      if (position !== undefined && told > position && told !== confirmed && brings(source, position, told))
        violated(
          "exact copy",
          `${SOURCE} was told that all up to ${told} is on ${target}, which has ${position}`,
        );
      confirmed = told;
      if (position === undefined || (position === origin && postgres.state.version === version)) return;
      origin = position;
      version = postgres.state.version;
      if (position < past.end) return;
      goOn(source, position);
      for (const organization of cluster.assignments.keys()) {
        const expected = past.rows.get(organization) ?? 0;
        const found = postgres.state.rows.get(organization)?.length ?? 0;
        if (found !== expected)
          violated(
            "exact copy",
            `${target} says that it has the rows of ${organization} up to ${position}, which are ${expected}, and has ${found}`,
          );
      }
    },
  };
}
