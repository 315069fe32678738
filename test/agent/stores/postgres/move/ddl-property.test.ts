/**
 * Any history of an application and its deployments against a move that follows it: after the fence everything is equal by
 * a comparison that shares nothing with the product, or the move has said why not. CLEAVE_HISTORIES says how many,
 * CLEAVE_HISTORY_SEED with which seed they begin; each has a database of its own on one pair of servers.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { backName, slotName } from "../../../../../agent/stores/postgres/split/slots.ts";
import { SeededRandom } from "../../../../../examples/quickstart/traffic/random.ts";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { History } from "../../../../support/postgres/histories.ts";
import type { Step } from "../../../../support/postgres/history-steps.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";
import { Cluster } from "../../../../support/postgres/postgres.ts";

const COUNT = Number(process.env["CLEAVE_HISTORIES"] ?? "25");
const FIRST = Number(process.env["CLEAVE_HISTORY_SEED"] ?? "1");
/** Each waits a lot, so several go on side by side. */
const LANES = 3;
/** After the last step: for how long a move may be on its way before it has to have said why not. */
const SETTLES_WITHIN_MS = 45_000;
/** The same reasons for so long are an answer, unless they are that it is on its way. */
const SAID_FOR_MS = 5_000;
const ON_ITS_WAY = /not followed yet/;
/** Fences in turn: each that is not matched is lowered. */
const ATTEMPTS = 3;
/** As the coordinator, which lowers a fence that is not matched. */
const FENCED_AT_MOST_MS = 10_000;

/** Kinds of steps that are left out, with the reason. */
const EXCLUDED: Readonly<Record<string, string>> = {};
/** Kinds that a move may refuse to follow, with the reason; any other is followed. */
const MAY_BE_REFUSED: Readonly<Record<string, string>> = {
  swap: "both tables have the same columns, so nothing says on which side of the swap the target is, and rows of one meet the other",
};
/** Done on the target first, they take a table or a column away from rows that are still on their way. */
const NEVER_BEFORE: ReadonlySet<string> = new Set([
  "drop column",
  "rename column",
  "swap",
  "rebuild and swap",
  "drop partition",
  "detach partition",
  "detach partition concurrently",
]);

type Outcome = { readonly equal: true } | { readonly equal: false; readonly why: string };
interface Databases {
  readonly source: pg.Client;
  /** Where the same is done without a move: what works there has to work on the source. */
  readonly control: pg.Client;
  readonly target: pg.Client;
}

let servers: { source: Cluster; target: Cluster };
beforeAll(async () => {
  const settings = {
    wal_level: "logical",
    max_replication_slots: "20",
    max_wal_senders: "20",
    max_connections: "200",
  };
  const [source, target] = await Promise.all([
    Cluster.start({ podId: FROM, settings }),
    Cluster.start({ podId: TO, settings }),
  ]);
  servers = { source, target };
}, 60_000);
afterAll(async () => {
  await servers?.source.remove();
  await servers?.target.remove();
});

/** @returns the SQLSTATE of what failed; null when all of it was committed. */
async function run(db: pg.Client, { sql, alone }: Pick<Step, "sql" | "alone">): Promise<string | null> {
  try {
    if (alone) for (const statement of sql) await db.query(statement);
    else await db.query(`BEGIN; ${sql.join("; ")}; COMMIT`);
    return null;
  } catch (error) {
    await db.query("ROLLBACK");
    return (error as { code?: string }).code ?? String(error);
  }
}

/** On the target, as an operator would: again while it is refused for now. @returns why it was not done; null when it was. */
async function operate(db: pg.Client, step: Step): Promise<string | null> {
  for (let attempt = 0; ; attempt++) {
    const failed = await run(db, { sql: step.operator, alone: step.alone });
    if (failed === null || attempt >= 20) return failed;
    await sleep(100);
  }
}

/** Everything of an organization, table by table, as one hash each. */
async function contents(db: pg.Client, conditions: ReadonlyMap<string, string>): Promise<unknown[]> {
  const found: unknown[] = [];
  for (const [table, condition] of conditions) {
    const { rows } = await db.query(
      `SELECT count(*)::int AS n, md5(string_agg(to_jsonb(t)::text, E'\\n' ORDER BY to_jsonb(t)::text COLLATE "C")) AS md5,
         (SELECT string_agg(format('%s %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attname COLLATE "C") FROM pg_attribute
           WHERE attrelid = '${table}'::regclass AND attnum > 0 AND NOT attisdropped) AS columns
       FROM ${table} t WHERE ${condition}`,
    );
    found.push({ table, ...rows[0] });
  }
  return found;
}

/** Users whom its rows refer to, whether a constraint says so or not. */
async function users(db: pg.Client, conditions: ReadonlyMap<string, string>): Promise<unknown[]> {
  const { rows } = await db.query(
    `SELECT DISTINCT u.id, u.name FROM issues t JOIN users u ON u.id IN (t.author_id, t.assigned_user_id) WHERE ${conditions.get("issues")} ORDER BY 1`,
  );
  return rows;
}

const inWords = (error: unknown): string => {
  if (!(error instanceof CleaveError)) throw error;
  if (error.code === "INTERNAL") throw error;
  return `${error.code}: ${error.message}`;
};

/** What keeps the move from its fence; nothing when it is ready. */
async function reasons(pods: MovePods): Promise<string[]> {
  const { verified, problems } = pods.status(TO);
  const ours = pods.status(FROM).problems;
  const found = [...problems, ...ours].map(({ code, message }) => `${code}: ${message}`);
  if (!verified && found.length === 0) return [""];
  if (found.length > 0) return found;
  const findings = [...(await pods.preflight(FROM, "fence")), ...(await pods.preflight(TO, "fence"))];
  return findings
    .filter(({ severity }) => severity === "error")
    .map(({ code, message }) => `${code}: ${message}`);
}

/** Ready, or the reasons that lasted. */
async function settle(pods: MovePods): Promise<string[]> {
  const begun = performance.now();
  let said = "";
  let since = begun;
  for (;;) {
    const found = await reasons(pods).catch((error: unknown) => [inWords(error)]);
    if (found.length === 0) return [];
    const now = performance.now();
    if (found.join() !== said) since = now;
    said = found.join();
    if (said !== "" && !ON_ITS_WAY.test(said) && now - since > SAID_FOR_MS) return found;
    if (now - begun > SETTLES_WITHIN_MS) return found;
    await sleep(50);
  }
}

/** @returns whether the evidence is equal. @throws what either said. */
async function fence(pods: MovePods, epoch: number): Promise<boolean> {
  const options = { epoch, phase: "fenced" } as const;
  const signal = AbortSignal.timeout(FENCED_AT_MOST_MS);
  try {
    await Promise.all([
      pods.store(FROM).reach(pods.duty(FROM, "fence", options), signal),
      pods.store(TO).reach(pods.duty(TO, "match", options), signal),
    ]);
  } catch (error) {
    if (!signal.aborted) throw error;
    const said = [...pods.status(TO).problems, ...pods.status(FROM).problems];
    throw new CleaveError("FENCE_DEADLINE", said.map(({ code, message }) => `${code}: ${message}`).join());
  }
  const [source, target] = [pods.status(FROM).evidence?.digest, pods.status(TO).evidence?.digest];
  return source !== undefined && source === target;
}

/** The first of several that differs, for a message. */
function sameContents(ours: readonly unknown[], theirs: readonly unknown[], what: string): void {
  for (const [at, one] of ours.entries())
    expect(JSON.stringify(theirs[at]), `${what}, against ${JSON.stringify(one)}`).toBe(JSON.stringify(one));
}

/** With `last` committed while the fence waits for it. @returns why there is no equal evidence; null when there is. */
async function fenceWith(
  pods: MovePods,
  dbs: Databases,
  last: Step | null,
  epoch: number,
): Promise<string | null> {
  const db = dbs.source;
  const begun = last !== null && (await db.query(`BEGIN; ${last.sql.join("; ")}`).catch(() => null)) !== null;
  const fenced = fence(pods, epoch).then(
    (equal) => (equal ? null : "MISMATCH: the evidence differs"),
    (error: unknown) => inWords(error),
  );
  fenced.catch(() => undefined);
  if (last !== null) {
    await sleep(60);
    const committed = begun && (await db.query("COMMIT").catch(() => null)) !== null;
    if (!begun) await db.query("ROLLBACK");
    if (committed) await run(dbs.control, last);
  }
  return await fenced;
}

async function play(history: History, pods: MovePods, dbs: Databases): Promise<Outcome> {
  const random = new SeededRandom(history.seed ^ 0x5bd1e995);
  await pods.follow();
  const its = history.conditions("its");
  const residents = history.conditions("the residents'");
  const lost: string[] = [];
  const later: Step[] = [];
  const onTarget = async (step: Step) => {
    const failed = await operate(dbs.target, step);
    if (failed !== null) lost.push(`${step.kind}: ${failed}`);
  };
  for (const step of history.steps) {
    const when =
      step.operator.length === 0
        ? "never"
        : random.pick(
            ["before", "after", "later"].filter((one) => one !== "before" || !NEVER_BEFORE.has(step.kind)),
          );
    if (when === "before" && later.length === 0) await onTarget(step);
    const expected = await run(dbs.control, step);
    const got = await run(dbs.source, step);
    expect(got, `${step.kind}: ${step.sql.join("; ")}`).toBe(expected);
    if (when === "never") await sleep(random.below(60));
    else if (when === "later" || (when === "before" && later.length > 0)) later.push(step);
    else if (when === "after") {
      for (const one of later.splice(0)) await onTarget(one);
      await onTarget(step);
    }
  }
  for (const one of later) await onTarget(one);
  const before = { residents: [] as unknown[] };
  for (let epoch = 1; ; epoch++) {
    const why = await settle(pods);
    if (why.length > 0) return refused(why);
    before.residents = await contents(dbs.target, residents);
    const last = epoch === 1 ? history.last : null;
    const failed = await fenceWith(pods, dbs, last, epoch);
    if (failed === null) break;
    const answer = refused([failed]);
    // A change of the schema in the last moment: the fence is lowered, the operator does it too, and then it goes up.
    if (epoch >= ATTEMPTS) return answer;
    await Promise.all([pods.reach(FROM, "serve", { epoch }), pods.reach(TO, "follow", { epoch })]);
    if (last !== null && last.operator.length > 0) await onTarget(last);
  }
  const ours = await contents(dbs.source, its);
  sameContents(await contents(dbs.control, its), ours, "the source, after the same history without a move");
  sameContents(ours, await contents(dbs.target, its), "the target");
  sameContents(await users(dbs.source, its), await users(dbs.target, its), "users on the target");
  sameContents(before.residents, await contents(dbs.target, residents), "the residents' rows");
  return { equal: true };
}

function refused(why: readonly string[]): Outcome {
  const text = why.join("; ");
  expect(text, "a reason, with an object's name").toMatch(
    /users|orgs|projects|issues|notes|settings|events|index_\d|MISMATCH/,
  );
  expect(text).not.toMatch(/INTERNAL/);
  return { equal: false, why: text.slice(0, 300) };
}

function mayBeRefused({ steps, last }: History): boolean {
  return [...steps, ...(last === null ? [] : [last])].some(({ kind }) => kind in MAY_BE_REFUSED);
}

async function playIn(seed: number): Promise<{ history: History; outcome: Outcome }> {
  const history = new History(seed, new Set(Object.keys(EXCLUDED)));
  const name = `history_${seed}`;
  const control = `control_${seed}`;
  await servers.source.query(`CREATE DATABASE ${name}`);
  await servers.source.query(`CREATE DATABASE ${control}`);
  await servers.target.query(`CREATE DATABASE ${name}`);
  const dbs: Databases = {
    source: await servers.source.connect(name),
    control: await servers.source.connect(control),
    target: await servers.target.connect(name),
  };
  // The usual one begins with the user's own, which the guard's schema is here.
  for (const db of Object.values(dbs) as pg.Client[]) await db.query("SET search_path = public");
  const pods = MovePods.within(servers, name, history.ownership, [history.organization]);
  pods.migrationId = `move-${seed}` as never;
  try {
    for (const db of [dbs.source, dbs.control]) await db.query(history.ddl + history.data);
    await dbs.target.query(history.ddl + history.residents);
    return { history, outcome: await play(history, pods, dbs) };
  } catch (error) {
    throw new Error(`${history.describe()}\n${(error as Error).message}`, { cause: error });
  } finally {
    await pods.close();
    await Promise.all(Object.values(dbs).map((db) => (db as pg.Client).end()));
    await servers.source.query(
      "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active",
      [name],
    );
    await servers.source.query(`DROP DATABASE ${name} WITH (FORCE)`);
    await servers.source.query(`DROP DATABASE ${control} WITH (FORCE)`);
    await servers.target.query(`DROP DATABASE ${name} WITH (FORCE)`);
    await servers.target.query(
      "SELECT pg_replication_origin_drop(o.roname) FROM pg_replication_origin o WHERE o.roname = ANY ($1::text[])",
      [[slotName(pods.migrationId, TO), backName(pods.migrationId, TO)]],
    );
  }
}

it(
  `${COUNT} histories from seed ${FIRST} are carried over, or the move says why not`,
  async () => {
    const failures: string[] = [];
    const refusals: string[] = [];
    let next = FIRST;
    const lane = async () => {
      for (let seed = next++; seed < FIRST + COUNT; seed = next++) {
        try {
          const { history, outcome } = await playIn(seed);
          if (outcome.equal) continue;
          const line = `${history.describe()}\nrefused: ${outcome.why}`;
          (mayBeRefused(history) ? refusals : failures).push(line);
        } catch (error) {
          failures.push((error as Error).message);
        }
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    if (process.env["CLEAVE_HISTORY_REFUSALS"]) console.info(refusals.join("\n"));
    expect(failures.join("\n\n")).toBe("");
  },
  60_000 + COUNT * 15_000,
);
