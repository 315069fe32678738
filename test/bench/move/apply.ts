/** Applying a backlog of changes, against the apply worker of a subscription that has the same backlog. */

import { BaseCopy } from "../../../agent/stores/postgres/replication/base-copy.ts";
import { createOrigin, follow } from "../../../agent/stores/postgres/replication/follow.ts";
import { quoteLiteral } from "../../../agent/stores/postgres/server/queryable.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { DATABASE } from "../../support/postgres/postgres.ts";
import { type BenchPods, OURS, secondsOf, TABLES } from "./pods.ts";

/** A third each of inserts, updates and deletes, of random rows; `share` of them of the organization that moves. */
const BACKLOG = `
CREATE SEQUENCE backlog START 1000000000;
CREATE PROCEDURE backlog(transactions int, changes int, share float8, known int) LANGUAGE plpgsql AS $$
DECLARE org bigint; kind int; chosen bigint;
BEGIN
  FOR t IN 1..transactions LOOP
    FOR c IN 1..changes LOOP
      org := CASE WHEN random() < share THEN ${OURS} ELSE 2 + floor(random() * 9) END;
      kind := floor(random() * 3);
      chosen := 1 + floor(random() * known);
      IF kind = 0 THEN
        INSERT INTO items VALUES (org, nextval('backlog'), 1, 'new', repeat('x', 120), 1.5, now());
      ELSIF kind = 1 THEN
        UPDATE items SET title = 'changed ' || t, amount = amount + 1, at = now() WHERE org_id = org AND id = chosen;
      ELSE
        DELETE FROM events WHERE org_id = org AND id = chosen;
        INSERT INTO events VALUES (org, nextval('backlog'), 1, 2, now(), 'event');
      END IF;
    END LOOP;
    COMMIT;
  END LOOP;
END $$;`;

export interface ApplyRound {
  readonly contender: "cleave" | "native";
  readonly seconds: number;
}

export interface Backlog {
  readonly transactions: number;
  readonly changes: number;
  readonly share: number;
  /** Rows of each organization at the beginning. */
  readonly known: number;
}

export class ApplyBench {
  readonly #pods: BenchPods;
  #moving: Awaited<ReturnType<BenchPods["moving"]>> | null = null;
  #tokens = 0;

  constructor(pods: BenchPods) {
    this.#pods = pods;
  }

  /** Both have the organization's rows, and a slot from the same quiet moment on. */
  async prepare(): Promise<void> {
    const pods = this.#pods;
    await pods.source.query(BACKLOG);
    this.#moving = await pods.moving();
    for (const contender of ["cleave", "native"] as const) await pods.clean(contender);
    const copy = new BaseCopy({
      source: pods.endpoint("source"),
      target: pods.endpoint("target", "cleave"),
      moving: this.#moving,
      slot: "cleave_bench",
      clock: systemClock,
      concurrency: 2,
    });
    const lsn = await copy.run(AbortSignal.timeout(600_000));
    copy.close();
    await createOrigin(await pods.on("cleave"), "cleave_bench", lsn);
    const native = await pods.on("native");
    await native.query(
      `CREATE SUBSCRIPTION native_bench CONNECTION ${quoteLiteral(pods.conninfo)} PUBLICATION native_bench`,
    );
    for (;;) {
      const { rows } = await native.query("SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r'");
      if (rows.length === 0) break;
      await new Promise((done) => setTimeout(done, 50));
    }
    await native.query("ALTER SUBSCRIPTION native_bench DISABLE");
    for (const contender of ["cleave", "native"] as const)
      await (await pods.on(contender)).query("VACUUM ANALYZE");
  }

  /** Writes a backlog, and lets each apply it. */
  async round(backlog: Backlog, order: readonly ApplyRound["contender"][]): Promise<ApplyRound[]> {
    const { transactions, changes, share, known } = backlog;
    const source = await this.#pods.connect(this.#pods.source, DATABASE);
    // How long it takes to write it is of no interest.
    await source.query("SET synchronous_commit = off");
    await source.query(`CALL backlog(${transactions}, ${changes}, ${share}, ${known})`);
    this.#tokens += 1;
    const token = `marker ${this.#tokens}`;
    await source.query(
      "INSERT INTO cleave.marker VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET token = EXCLUDED.token",
      [token],
    );
    const rounds: ApplyRound[] = [];
    for (const contender of order) {
      await (await this.#pods.on(contender)).query("CHECKPOINT");
      const seconds = await (contender === "cleave" ? this.#byCleave(token) : this.#bySubscription(token));
      rounds.push({ contender, seconds });
    }
    return rounds;
  }

  /** What is the same in both databases afterwards: a digest of the organization's rows. */
  async digests(): Promise<string[]> {
    const digests: string[] = [];
    for (const contender of ["cleave", "native"] as const) {
      const db = await this.#pods.on(contender);
      const sums = TABLES.map(
        (table) => `(SELECT sum(hashtextextended(t::text, 0))::text FROM ${table} t WHERE org_id = ${OURS})`,
      );
      const { rows } = await db.query<{ digest: string }>(
        `SELECT concat_ws('/', ${sums.join(", ")}) AS digest`,
      );
      digests.push(rows[0]?.digest ?? "");
    }
    return digests;
  }

  async #byCleave(token: string): Promise<number> {
    const moving = this.#moving;
    if (moving === null) throw new Error("prepare comes first");
    const stop = new AbortController();
    let following: Promise<void> = Promise.resolve();
    const seconds = await secondsOf(
      () =>
        new Promise<void>((resolve, reject) => {
          following = follow({
            source: this.#pods.endpoint("source"),
            target: this.#pods.endpoint("target", "cleave"),
            moving,
            slot: "cleave_bench",
            publication: "cleave_bench",
            signal: stop.signal,
            onMarker: (values) => {
              if (values["token"] === token) resolve();
            },
          });
          following.catch(reject);
        }),
    );
    stop.abort();
    await following;
    return seconds;
  }

  async #bySubscription(token: string): Promise<number> {
    const db = await this.#pods.on("native");
    const seconds = await secondsOf(async () => {
      await db.query("ALTER SUBSCRIPTION native_bench ENABLE");
      for (;;) {
        const { rows } = await db.query("SELECT FROM cleave.marker WHERE token = $1", [token]);
        if (rows.length > 0) return;
        await new Promise((done) => setTimeout(done, 2));
      }
    });
    await db.query("ALTER SUBSCRIPTION native_bench DISABLE");
    return seconds;
  }

  async remove(): Promise<void> {
    await (await this.#pods.on("native")).query("DROP SUBSCRIPTION IF EXISTS native_bench");
  }
}
