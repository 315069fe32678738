/** A split with a way back, open, as PostgreSQL alone sees it; and what tests of it look at. */
import type pg from "pg";
import type { PostgresStore } from "../../../agent/stores/postgres/store.ts";
import type { ReverseReplicationStatus, StoreStatus } from "../../../protocol/evidence.ts";
import { eventually } from "../eventually.ts";
import {
  type Assembly,
  assemble,
  connectTo,
  MIGRATION,
  never,
  ROLLBACK,
  SOURCE,
  type TargetPod,
  targetId,
} from "./pods.ts";

export const TARGET = targetId(0);

const SCHEMA = `
CREATE TABLE lines (id bigint PRIMARY KEY, note_id bigint NOT NULL REFERENCES notes ON DELETE CASCADE, line text);
CREATE TABLE events (id bigint, month int, organization_id bigint, PRIMARY KEY (id, month)) PARTITION BY LIST (month);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
CREATE TABLE events_rest PARTITION OF events DEFAULT;
INSERT INTO lines SELECT id, id, 'line' FROM notes;
INSERT INTO events SELECT g, g % 3, 1 + g % 10 FROM generate_series(1, 300) g;`;
const TABLES = {
  "public.lines": { parent: "public.notes", column: "note_id", parentKey: "id" },
  "public.events": { organization: "organization_id" },
} as const;
const OWNERS: Readonly<Record<string, string>> = {
  organizations: "id",
  notes: "organization_id",
  lines: "(SELECT organization_id FROM notes WHERE notes.id = t.note_id)",
  events: "organization_id",
};

export const ADMINISTERED = `SELECT 'slot' AS kind, slot_name::text AS name FROM pg_replication_slots
  UNION ALL SELECT 'origin', roname FROM pg_replication_origin UNION ALL SELECT 'publication', pubname FROM pg_publication ORDER BY 1, 2`;

/** Everything that Cleave keeps in a database but positions and snapshots, as text. */
const KEPT = ["share", "route", "marker", "touched", "verified", "moved"].map(
  (table) => `SELECT '${table}: ' || t::text AS row FROM cleave.${table} t`,
);

export class BackPods {
  readonly pods: Assembly;
  readonly target: TargetPod;
  source: PostgresStore;
  there: PostgresStore;
  readonly #clients: pg.Client[] = [];
  readonly #askings = new Map<"source" | "target", Promise<pg.Client>>();

  private constructor(pods: Assembly) {
    this.pods = pods;
    this.target = pods.targets[0] as TargetPod;
    this.source = pods.store(SOURCE);
    this.there = pods.store(TARGET);
  }

  /** The target has organizations 1 and 2, and nothing is under way. */
  static async assemble(): Promise<BackPods> {
    return new BackPods(
      await assemble({
        each: 2,
        cluster: { settings: { wal_level: "logical" } },
        settings: { retention: { reverseReplication: "replicated" }, cutover: { drainGraceMs: 200 } },
        schema: SCHEMA,
        tables: TABLES,
      }),
    );
  }

  async remove(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.end().catch(() => undefined)));
    await this.pods.remove();
  }

  async client(of: "source" | "target"): Promise<pg.Client> {
    const client = of === "source" ? await this.pods.source.connect() : await connectTo(this.target);
    this.#clients.push(client);
    return client;
  }

  /** For looking, again and again. */
  async #asking(of: "source" | "target"): Promise<pg.Client> {
    const asking = this.#askings.get(of) ?? this.client(of);
    this.#askings.set(of, asking);
    return await asking;
  }

  async follow(): Promise<void> {
    const { pods, source, there } = this;
    await source.reach(pods.duty(SOURCE, "prepare"), never);
    await there.reach(pods.duty(TARGET, "seed"), never);
    await source.reach(pods.duty(SOURCE, "serve"), never);
    await there.reach(pods.duty(TARGET, "follow"), never);
  }

  async match(): Promise<void> {
    const { pods, source, there } = this;
    const fenced = { epoch: 1, phase: "fenced" } as const;
    await source.reach(pods.duty(SOURCE, "fence", fenced), never);
    await there.reach(pods.duty(TARGET, "match", fenced), never);
  }

  async activate(): Promise<void> {
    const { pods, source, there } = this;
    const transferred = { epoch: 1, phase: "transferred" } as const;
    await source.reach(pods.duty(SOURCE, "yield", transferred), never);
    await there.reach(pods.duty(TARGET, "activate", transferred), never);
  }

  async open(): Promise<void> {
    const { pods, source, there } = this;
    const opened = { epoch: 1, phase: "opened" } as const;
    await there.reach(pods.duty(TARGET, "open", opened), never);
    await source.reach(pods.duty(SOURCE, "yield", opened), never);
  }

  async split(): Promise<void> {
    await this.follow();
    await this.match();
    await this.activate();
    await this.open();
  }

  get reverseReplication(): ReverseReplicationStatus {
    const status = this.source.status(MIGRATION)?.reverseReplication?.[TARGET];
    if (status === undefined) throw new Error("nothing flows back");
    return status;
  }

  /** Everything was compared, and nothing is on its way. */
  level(): Promise<void> {
    return eventually(() => {
      const { lag, verified, problem } = this.reverseReplication;
      if (problem !== null || !verified || lag.amount !== 0)
        throw new Error(JSON.stringify(this.reverseReplication));
    }, 20_000);
  }

  /** Rows of an organization, as text. */
  async rows(of: "source" | "target", organization: number): Promise<Record<string, string[]>> {
    const db = await this.#asking(of);
    const found: Record<string, string[]> = {};
    for (const [table, owner] of Object.entries(OWNERS)) {
      const { rows } = await db.query<{ row: string }>(
        `SELECT t::text AS row FROM ${table} t WHERE ${owner} = $1 ORDER BY 1`,
        [organization],
      );
      found[table] = rows.map(({ row }) => row);
    }
    return found;
  }

  /** The copy on the source has what the target has, as soon as that has arrived. */
  arrived(organization: number): Promise<void> {
    return eventually(async () => {
      const [here, there] = [
        await this.rows("source", organization),
        await this.rows("target", organization),
      ];
      if (JSON.stringify(here) !== JSON.stringify(there))
        throw new Error(
          `organization ${organization} differs: ${JSON.stringify({ here, there }).slice(0, 2_000)}`,
        );
    }, 15_000);
  }

  /** What Cleave has in both databases. */
  async catalogs(): Promise<unknown> {
    const found: unknown[] = [];
    for (const of of ["source", "target"] as const) {
      const db = await this.#asking(of);
      found.push((await db.query(ADMINISTERED)).rows);
      // How far the comparison of the way back came, and what is left to compare, goes on all the time.
      for (const table of KEPT)
        found.push(
          (await db.query<{ row: string }>(`${table} ORDER BY 1`)).rows
            .map(({ row }) => row)
            .filter((row) => !/^(touched|verified): \(split-1,/.test(row)),
        );
    }
    return found;
  }

  // Of the rollback of organization 1, which goes back to the source.

  async rollBackUntil(goal: "follow" | "match" | "activate" | "open"): Promise<void> {
    const { pods } = this;
    await this.there.reach(pods.rollbackDuty(TARGET, "prepare"), never);
    await this.source.reach(pods.rollbackDuty(SOURCE, "seed"), never);
    await this.there.reach(pods.rollbackDuty(TARGET, "serve"), never);
    await this.source.reach(pods.rollbackDuty(SOURCE, "follow"), never);
    await eventually(() => {
      const status = this.source.status(ROLLBACK) as StoreStatus;
      // Under traffic it is never level for long: within its bound, as a fence asks for.
      const { lagBounds } = pods.rollbackDuty(SOURCE, "follow").settings;
      const lagBytes = status.lag?.amount ?? Number.POSITIVE_INFINITY;
      if (!status.verified || lagBytes > lagBounds.postgresBytes) throw new Error(JSON.stringify(status));
    }, 20_000);
    if (goal === "follow") return;
    await this.fenceBack(2);
    if (goal === "match") return;
    await this.activateBack(2);
    if (goal === "activate") return;
    await this.openBack(2);
  }

  async fenceBack(epoch: number): Promise<void> {
    const { pods } = this;
    const fenced = { epoch, phase: "fenced" } as const;
    await Promise.all([
      this.there.reach(pods.rollbackDuty(TARGET, "fence", fenced), never),
      this.source.reach(pods.rollbackDuty(SOURCE, "match", fenced), never),
    ]);
  }

  digests(): (string | undefined)[] {
    return [this.there, this.source].map((store) => store.status(ROLLBACK)?.evidence?.digest);
  }

  /** With what the log tells the migration before: its source is in both. */
  async activateBack(epoch: number): Promise<void> {
    const { pods } = this;
    const transferred = { epoch, phase: "transferred" } as const;
    await Promise.all([
      this.there.reach(pods.rollbackDuty(TARGET, "yield", transferred), never),
      this.source.reach(pods.rollbackDuty(SOURCE, "activate", transferred), never),
      this.source.reach(
        pods.duty(SOURCE, "yield", { epoch: 1, phase: "opened", rollback: "transferred" }),
        never,
      ),
    ]);
  }

  async openBack(epoch: number): Promise<void> {
    const { pods } = this;
    const opened = { epoch, phase: "opened" } as const;
    await this.source.reach(pods.rollbackDuty(SOURCE, "open", opened), never);
    await this.there.reach(pods.rollbackDuty(TARGET, "yield", opened), never);
    const after = { epoch: 1, phase: "opened", rollback: "opened" } as const;
    await this.source.reach(pods.duty(SOURCE, "yield", after), never);
    await this.there.reach(pods.duty(TARGET, "open", after), never);
  }
}
