/**
 * The floor under the read-only window on this machine, measured in the same run: what no split can do without.
 *
 *     floorMs = commit on Pod 0 until replayed on every new Pod (the fence and its marker; median)
 *             + three appends to the log, one after the other (fence, decision, opening; median)
 *             + promotion of a new Pod, from its server's own log (the slowest)
 */
import { readFileSync } from "node:fs";
import { connect } from "nats";
import pg from "pg";
import type { PostgresAddress } from "../cluster/postgres-server.ts";
import { percentile } from "../traffic/windows.ts";

const PROBES = 15;
const GIVE_UP_MS = 2_000;

export interface FloorParts {
  readonly commitToReplayMs: number | null;
  readonly appendMs: number | null;
  readonly promotionMs: number | null;
}

/** Null when a part could not be measured: an estimate would be an invention. */
export function floorOf(parts: FloorParts): number | null {
  const { appendMs, commitToReplayMs, promotionMs } = parts;
  if (appendMs === null || commitToReplayMs === null || promotionMs === null) return null;
  return commitToReplayMs + 3 * appendMs + promotionMs;
}

/** Median milliseconds from a commit's beginning on the source until every standby has replayed it. */
export async function measureCommitToReplay(
  source: PostgresAddress,
  standbys: readonly PostgresAddress[],
): Promise<number | null> {
  const clients = [source, ...standbys].map(
    (address) => new pg.Client({ ...address, connectionTimeoutMillis: 2_000 }),
  );
  for (const client of clients) client.on("error", () => undefined);
  try {
    await Promise.all(clients.map((client) => client.connect()));
    const [primary, ...replicas] = clients as [pg.Client, ...pg.Client[]];
    const times: number[] = [];
    for (let probe = 0; probe < PROBES; probe += 1) {
      const startedAt = performance.now();
      // Transactional, so that its commit is flushed as a writer's would be; it changes no table.
      await primary.query("SELECT pg_logical_emit_message(true, 'demo', 'probe')");
      const { rows } = await primary.query<{ lsn: string }>("SELECT pg_current_wal_insert_lsn() AS lsn");
      const lsn = rows[0]?.lsn;
      await Promise.all(replicas.map((replica) => replayed(replica, lsn ?? "", startedAt + GIVE_UP_MS)));
      times.push(performance.now() - startedAt);
    }
    return percentile(times, 0.5);
  } catch {
    return null;
  } finally {
    await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
  }
}

async function replayed(replica: pg.Client, lsn: string, until: number): Promise<void> {
  for (;;) {
    const { rows } = await replica.query<{ done: boolean | null }>(
      "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS done",
      [lsn],
    );
    if (rows[0]?.done) return;
    if (performance.now() > until) throw new Error("not replayed in time");
  }
}

/** Median milliseconds of an append to a log like Cleave's on the same server, one after the other. */
export async function measureAppend(natsUrl: string): Promise<number | null> {
  const stream = "demo-floor";
  const connection = await connect({ servers: natsUrl, timeout: 2_000 }).catch(() => null);
  if (connection === null) return null;
  try {
    const manager = await connection.jetstreamManager();
    await manager.streams.add({ name: stream, subjects: ["demo.floor"] });
    const jetstream = connection.jetstream();
    const times: number[] = [];
    let last = 0;
    for (let probe = 0; probe < PROBES; probe += 1) {
      const startedAt = performance.now();
      const acknowledged = await jetstream.publish("demo.floor", Buffer.alloc(300), {
        expect: { lastSequence: last },
      });
      last = acknowledged.seq;
      times.push(performance.now() - startedAt);
    }
    await manager.streams.delete(stream);
    return percentile(times, 0.5);
  } catch {
    return null;
  } finally {
    await connection.close();
  }
}

/** Milliseconds from the promotion's request to the first accepted write, as a server's log tells; null if it does not. */
export function promotionOf(log: string): number | null {
  const requested = timeOf(log, /received promote request/);
  const ready = timeOf(log, /database system is ready to accept connections/);
  return requested === null || ready === null || ready < requested ? null : ready - requested;
}

export function promotionOfFile(file: string): number | null {
  try {
    return promotionOf(readFileSync(file, "utf8"));
  } catch {
    return null;
  }
}

/** The last line that matches, by its `2026-01-31 12:00:00.123 UTC` prefix. */
function timeOf(log: string, pattern: RegExp): number | null {
  const line = log.split("\n").findLast((text) => pattern.test(text));
  const stamp = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d{3})/.exec(line ?? "");
  return stamp === null ? null : Date.parse(`${stamp[1]}T${stamp[2]}Z`);
}
