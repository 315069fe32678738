/** Two live servers with the same schema, of which one organization's rows are copied and followed. */
import type pg from "pg";
import { readSchema } from "../../../agent/stores/postgres/inventory/schema.ts";
import { BaseCopy, type BaseCopyOptions } from "../../../agent/stores/postgres/replication/base-copy.ts";
import { createOrigin, follow } from "../../../agent/stores/postgres/replication/follow.ts";
import { type Moving, planMove } from "../../../agent/stores/postgres/replication/moved-tables.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { OrganizationId } from "../../../protocol/ids.ts";
import type { Ownership } from "../../../protocol/ownership.ts";
import { differences, digestsOf } from "../digests.ts";
import { Cluster, DATABASE, PASSWORD, USER } from "./postgres.ts";

const SLOT = "cleave_move";

export const endpointOf = ({ port }: Cluster) => ({
  host: "127.0.0.1",
  port,
  database: DATABASE,
  user: USER,
  password: PASSWORD,
});

export class LogicalPods {
  readonly source: Cluster;
  readonly target: Cluster;
  readonly ownership: Ownership;
  readonly markers = new Set<string>();
  #moving: Moving | null = null;
  #following: { stop: AbortController; ended: Promise<void> } | null = null;

  private constructor(source: Cluster, target: Cluster, ownership: Ownership) {
    this.source = source;
    this.target = target;
    this.ownership = ownership;
  }

  static async start(schema: string, ownership: Ownership): Promise<LogicalPods> {
    const settings = { wal_level: "logical" };
    const [source, target] = await Promise.all([
      Cluster.start({ podId: "pod-0", settings }),
      Cluster.start({ podId: "pod-1", settings }),
    ]);
    for (const cluster of [source, target]) {
      await cluster.query(schema);
      await cluster.query(
        "CREATE SCHEMA cleave; CREATE TABLE cleave.marker (id int PRIMARY KEY, token text)",
      );
    }
    return new LogicalPods(source, target, ownership);
  }

  async remove(): Promise<void> {
    await this.stop().catch(() => undefined);
    await this.source.remove();
    await this.target.remove();
  }

  get moving(): Moving {
    if (this.#moving === null) throw new Error("nothing is planned");
    return this.#moving;
  }

  /** Publication and slot, one snapshot, all rows of it. @returns how many */
  async copy(organizations: readonly string[], options: Partial<BaseCopyOptions> = {}): Promise<number> {
    const copy = await this.baseCopy(organizations, options);
    try {
      return await this.run(copy);
    } finally {
      copy.close();
    }
  }

  /** The publication, and a copy that was not begun. */
  async baseCopy(
    organizations: readonly string[],
    options: Partial<BaseCopyOptions> = {},
  ): Promise<BaseCopy> {
    const [here, there] = [await this.source.connect(), await this.target.connect()];
    try {
      const [from, to] = [await readSchema(here), await readSchema(there)];
      this.#moving = planMove(from, to, this.ownership, organizations as OrganizationId[]);
      const tables = this.moving.tables.map(({ quoted }) => quoted).join(", ");
      await here.query(`DROP PUBLICATION IF EXISTS ${SLOT}`);
      await here.query(
        `CREATE PUBLICATION ${SLOT} FOR TABLE ${tables}, cleave.marker WITH (publish_via_partition_root = true)`,
      );
    } finally {
      await Promise.all([here.end(), there.end()]);
    }
    return new BaseCopy({
      source: endpointOf(this.source),
      target: endpointOf(this.target),
      moving: this.moving,
      slot: SLOT,
      clock: systemClock,
      concurrency: 3,
      ...options,
    });
  }

  /** One attempt; when it has come to its end, following goes on from there. @returns rows */
  async run(copy: BaseCopy): Promise<number> {
    const lsn = await copy.run(AbortSignal.timeout(60_000));
    const there = await this.target.connect();
    try {
      await createOrigin(there, SLOT, lsn);
      const { rows } = await there.query<{ rows: string }>(
        "SELECT COALESCE(sum(rows), 0) AS rows FROM cleave.copied",
      );
      return Number(rows[0]?.rows);
    } finally {
      await there.end();
    }
  }

  /** In the background, until `stop`, which throws what ended it before. */
  follow(): void {
    const stop = new AbortController();
    const ended = follow({
      source: endpointOf(this.source),
      target: endpointOf(this.target),
      moving: this.moving,
      slot: SLOT,
      publication: SLOT,
      signal: stop.signal,
      onMarker: ({ token }) => void this.markers.add(token as string),
    });
    ended.catch(() => undefined);
    this.#following = { stop, ended };
  }

  async stop(): Promise<void> {
    const following = this.#following;
    this.#following = null;
    following?.stop.abort();
    await following?.ended;
  }

  /** What ended the following; waits for it. */
  async failure(): Promise<unknown> {
    return await this.#following?.ended.then(
      () => null,
      (error: unknown) => error,
    );
  }

  /** Everything that the source has committed is applied. */
  async caughtUp(): Promise<void> {
    const token = `marker ${Math.random()}`;
    await this.source.query(
      "INSERT INTO cleave.marker VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET token = EXCLUDED.token",
      [token],
    );
    const end = Date.now() + 30_000;
    const ended = this.#following?.ended.then(
      () => true,
      () => true,
    );
    while (!this.markers.has(token)) {
      if (Date.now() > end) throw new Error("the target does not catch up");
      const over = await Promise.race([
        ended,
        new Promise<false>((done) => setTimeout(() => done(false), 10)),
      ]);
      if (over) return await this.stop();
    }
  }

  /** The tables of which the organizations' rows differ. */
  async differences(): Promise<string[]> {
    const [here, there] = [await this.source.connect(), await this.target.connect()];
    try {
      return differences(await digestsOf(here, this.moving), await digestsOf(there, this.moving));
    } finally {
      await Promise.all([here.end(), there.end()]);
    }
  }

  /** Every row of every table as text, with its owner by the rules: read without the code that is tested. */
  async contents(db: pg.Client, sql: Readonly<Record<string, string>>): Promise<Record<string, string[]>> {
    const contents: Record<string, string[]> = {};
    for (const [table, text] of Object.entries(sql)) {
      const { rows } = await db.query<{ row: string }>(text);
      contents[table] = rows.map(({ row }) => row).sort();
    }
    return contents;
  }
}
