/**
 * Says for whom Cleave's own sessions wait: whoever holds a lock that they need, or a transaction that has to end before a
 * slot can be made. A session that waits cannot say so itself, whatever it is doing; so this asks the server.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import { Background } from "../background.ts";
import type { Endpoint } from "../config.ts";
import type { StatusBoard } from "../status-board.ts";
import { WarmConnection } from "./connection.ts";

const LOOK_EVERY_MS = 1_000;
const HANGS_AFTER_MS = 5_000;

/** Sessions of others that one of ours waits for; a session of ours that waits for another of ours is not stuck. */
const BLOCKERS = `
SELECT DISTINCT waiting.pid::pg_catalog.text || ' ' || COALESCE(held.pid, 0)::pg_catalog.text AS id,
  CASE WHEN held.pid IS NULL THEN 'a prepared transaction' ELSE
    pg_catalog.format('pid %s, user %s, application %s, %s since %s', held.pid, held.usename, held.application_name, held.state,
      pg_catalog.to_char(held.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')) END AS description
FROM pg_catalog.pg_stat_activity AS waiting
  CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(waiting.pid)) AS blocking (pid)
  LEFT JOIN pg_catalog.pg_stat_activity AS held ON held.pid = blocking.pid
WHERE waiting.wait_event_type = 'Lock' AND waiting.application_name LIKE 'cleave%'
  AND (held.pid IS NULL OR held.application_name NOT LIKE 'cleave%')`;

interface Server {
  readonly name: string;
  readonly connection: WarmConnection;
  /** Seen by the last look: what passes within moments is not worth a word. */
  waits: ReadonlyMap<string, string>;
}

export class LockWatch {
  readonly #board: StatusBoard;
  readonly #servers: readonly Server[];
  readonly #watch: Background;

  /** @param servers by the name that an operator knows them by */
  constructor(clock: Clock, board: StatusBoard, servers: Readonly<Record<string, Endpoint>>) {
    this.#board = board;
    this.#servers = Object.entries(servers).map(([name, endpoint]) => ({
      name,
      connection: new WarmConnection(endpoint, {
        applicationName: "cleave-look",
        queryTimeoutMs: HANGS_AFTER_MS,
      }),
      waits: new Map(),
    }));
    this.#watch = new Background(clock, LOOK_EVERY_MS, () => this.#look());
  }

  start(): void {
    this.#watch.start();
  }

  /** Nobody waits for its end: it may be asking a server that hangs. */
  stop(): void {
    void this.#watch.stop();
    for (const server of this.#servers) server.waits = new Map();
    this.#board.say("locks", null);
  }

  async close(): Promise<void> {
    for (const { connection } of this.#servers) connection.close();
    await this.#watch.stop();
  }

  async #look(): Promise<void> {
    const found = await Promise.all(this.#servers.map((server) => this.#waitsOn(server)));
    const reasons = found.flatMap((descriptions, at) =>
      descriptions.length === 0
        ? []
        : [
            new CleaveError(
              "POSTGRES_WAITS",
              `on ${this.#servers[at]?.name} Cleave waits for ${descriptions.join("; ")}`,
            ),
          ],
    );
    this.#board.say("locks", reasons);
  }

  async #waitsOn(server: Server): Promise<readonly string[]> {
    const before = server.waits;
    try {
      const rows = await server.connection.query<{ id: string; description: string }>(BLOCKERS);
      server.waits = new Map(rows.map(({ id, description }) => [id, description]));
    } catch {
      // Whoever needs the server says that it does not answer.
      server.waits = new Map();
    }
    return [...new Set([...server.waits].flatMap(([id, text]) => (before.has(id) ? [text] : [])))];
  }
}
