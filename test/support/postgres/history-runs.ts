/** Histories against a real move that follows them, and fences in turn: after each all is equal, or the move has said why not. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { backName, slotName } from "../../../agent/stores/postgres/split/slots.ts";
import { SeededRandom } from "../../../examples/quickstart/traffic/random.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import type { MigrationId } from "../../../protocol/ids.ts";
import type { History, World, Worlds } from "./histories.ts";
import type { Step } from "./history-steps.ts";
import { FROM, MovePods, TO } from "./move-pods.ts";
import type { Cluster } from "./postgres.ts";

/** After the last step: for how long a move may be on its way before it has to have said why not. */
const SETTLES_WITHIN_MS = 45_000;
/** The same reasons for so long are an answer, unless they are that it is on its way. */
const SAID_FOR_MS = 5_000;
const ON_ITS_WAY = /not followed yet|not streamed by the source yet/;
/** A fence that comes before the comparison of the last change is refused, and asked for again, as the coordinator does. */
const TOO_SOON = /^(SCHEMA_CHANGED|CHECKS_OUTDATED)/;
const FENCES_AT_MOST = 30;
/** As the coordinator, which lowers a fence that is not matched. */
const FENCED_AT_MOST_MS = 10_000;
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

export interface Servers {
  readonly source: Cluster;
  readonly target: Cluster;
}

/** A world's own sessions. */
interface Sessions {
  readonly source: pg.Client;
  /** Where the same is done without a move: what works there has to work on the source. */
  readonly control: pg.Client;
  readonly target: pg.Client;
}

/** Why there was no equal evidence. */
export interface Refusal {
  readonly why: string;
}

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

/** On the target, as an operator would: again while it is refused for now. */
async function operate(db: pg.Client, step: Step): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    const failed = await run(db, { sql: step.operator, alone: step.alone });
    if (failed === null) return;
    if (attempt >= 40) throw new Error(`on the target, ${step.kind}: ${failed}: ${step.operator.join("; ")}`);
    await sleep(50);
  }
}

const inWords = (error: unknown): string => {
  if (!(error instanceof CleaveError) || error.code === "INTERNAL") throw error;
  return `${error.code}: ${error.message}`;
};

const asText = (contents: readonly unknown[]) => contents.map((one) => JSON.stringify(one)).join("\n");

/** One move, with everything that lives in it. */
export class HistoryRun {
  readonly worlds: Worlds;
  readonly #servers: Servers;
  readonly #pods: MovePods;
  readonly #name: string;
  readonly #sessions = new Map<World, Sessions>();
  #watch: pg.Client | null = null;
  #epoch = 0;

  private constructor(servers: Servers, worlds: Worlds, name: string) {
    this.worlds = worlds;
    this.#servers = servers;
    this.#name = name;
    this.#pods = MovePods.within(servers, name, worlds.ownership, [worlds.organization]);
    this.#pods.migrationId = `move-${worlds.seed}` as MigrationId;
  }

  /** In databases of its own. */
  static async start(servers: Servers, worlds: Worlds): Promise<HistoryRun> {
    const made = new HistoryRun(servers, worlds, `histories_${worlds.seed}`);
    await made.#begin();
    return made;
  }

  async #begin(): Promise<void> {
    const { source, target } = this.#servers;
    const { ddl, data, residents, all } = this.worlds;
    await source.query(`CREATE DATABASE ${this.#name}`);
    await source.query(`CREATE DATABASE ${this.#name}_control`);
    await target.query(`CREATE DATABASE ${this.#name}`);
    this.#watch = await source.connect(this.#name);
    for (const world of all) {
      const sessions = {
        source: await source.connect(this.#name),
        control: await source.connect(`${this.#name}_control`),
        target: await target.connect(this.#name),
      };
      this.#sessions.set(world, sessions);
    }
    const [{ source: here, control, target: there } = {} as Sessions] = [...this.#sessions.values()];
    for (const db of [here, control]) await db.query(ddl + data);
    await there.query(ddl + residents);
    for (const [{ path }, sessions] of this.#sessions)
      for (const db of Object.values(sessions) as pg.Client[]) await db.query(path);
    await this.#pods.follow();
  }

  async end(): Promise<void> {
    const { source, target } = this.#servers;
    await this.#pods.close();
    await this.#watch?.end();
    for (const sessions of this.#sessions.values())
      await Promise.all((Object.values(sessions) as pg.Client[]).map((db) => db.end()));
    await source.query(
      "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active",
      [this.#name],
    );
    await source.query(`DROP DATABASE ${this.#name} WITH (FORCE)`);
    await source.query(`DROP DATABASE ${this.#name}_control WITH (FORCE)`);
    await target.query(`DROP DATABASE ${this.#name} WITH (FORCE)`);
    await target.query(
      "SELECT pg_replication_origin_drop(o.roname) FROM pg_replication_origin o WHERE o.roname = ANY ($1::text[])",
      [[slotName(this.#pods.migrationId, TO), backName(this.#pods.migrationId, TO)]],
    );
  }

  /** One history of each world, side by side, and a fence. @throws what is wrong, in words. */
  async play(histories: ReadonlyMap<World, History>): Promise<Refusal | null> {
    await Promise.all([...histories].map(([world, history]) => this.#live(world, history)));
    const deadline = performance.now() + SETTLES_WITHIN_MS;
    let lasts: ReadonlyMap<World, Step> = new Map(
      [...histories].flatMap(([world, { last }]) => (last === null ? [] : [[world, last]])),
    );
    for (let attempt = 1; ; attempt++) {
      const why = await this.#settle(deadline);
      if (why.length > 0) return refusal(why);
      const residents = await this.#contents("target", "the residents'");
      this.#epoch += 1;
      const failed = await this.#fenceWith(lasts);
      if (failed === null) {
        await this.#compare(residents);
        await this.#lower();
        return null;
      }
      await this.#lower();
      if (!TOO_SOON.test(failed) || attempt >= FENCES_AT_MOST || performance.now() > deadline)
        return refusal([failed]);
      // Changes of the schema in the last moment: the operator does them too, and then it goes up.
      for (const [world, last] of lasts)
        if (last.operator.length > 0) await operate(this.#of(world).target, last);
      lasts = new Map();
    }
  }

  #of(world: World): Sessions {
    return this.#sessions.get(world) as Sessions;
  }

  /** What the application does, and when the operator does the same on the target. */
  async #live(world: World, { steps }: History): Promise<void> {
    const random = new SeededRandom(world.random.below(2 ** 32));
    const { source, control, target } = this.#of(world);
    const later: Step[] = [];
    const catchUp = async () => {
      for (const one of later.splice(0)) await operate(target, one);
    };
    for (const step of steps) {
      const possible = ["before", "after", "later"].filter(
        (one) => one !== "before" || (!NEVER_BEFORE.has(step.kind) && later.length === 0),
      );
      const when = step.operator.length === 0 ? "never" : random.pick(possible);
      // What PostgreSQL refuses to anybody is for nobody to do on the target.
      const expected = await run(control, step);
      if (when === "before" && expected === null) await operate(target, step);
      const got = await run(source, step);
      if (got !== expected)
        throw new Error(
          `${got} instead of ${expected}, ${world.schema}: ${step.kind}: ${step.sql.join("; ")}`,
        );
      if (got !== null) continue;
      if (when === "never") await sleep(random.below(60));
      else if (when !== "before") later.push(step);
      if (when === "after") await catchUp();
    }
    await catchUp();
  }

  /** What keeps the move from its fence; nothing when it is ready. */
  async #reasons(): Promise<string[]> {
    const { verified, problems } = this.#pods.status(TO);
    const ours = this.#pods.status(FROM).problems;
    const found = [...problems, ...ours].map(({ code, message }) => `${code}: ${message}`);
    if (!verified && found.length === 0) return [""];
    if (found.length > 0) return found;
    const findings = [
      ...(await this.#pods.preflight(FROM, "fence")),
      ...(await this.#pods.preflight(TO, "fence")),
    ];
    return findings
      .filter(({ severity }) => severity === "error")
      .map(({ code, message }) => `${code}: ${message}`);
  }

  /** Ready, or the reasons that lasted. */
  async #settle(deadline: number): Promise<string[]> {
    let said = "";
    let since = performance.now();
    for (;;) {
      const found = await this.#reasons().catch((error: unknown) => [inWords(error)]);
      if (found.length === 0) return [];
      const now = performance.now();
      if (found.join() !== said) since = now;
      said = found.join();
      if (said !== "" && !ON_ITS_WAY.test(said) && now - since > SAID_FOR_MS) return found;
      if (now > deadline) return found;
      await sleep(10);
    }
  }

  /** @returns whether the evidence is equal. @throws what either said. */
  async #fence(signal: AbortSignal): Promise<boolean> {
    const pods = this.#pods;
    const options = { epoch: this.#epoch, phase: "fenced" } as const;
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

  async #lower(): Promise<void> {
    const options = { epoch: this.#epoch };
    await Promise.all([this.#pods.reach(FROM, "serve", options), this.#pods.reach(TO, "follow", options)]);
  }

  /** With these committed while the fence waits for them. @returns why there is no equal evidence; null when there is. */
  async #fenceWith(lasts: ReadonlyMap<World, Step>): Promise<string | null> {
    const begun = new Set<World>();
    for (const [world, { sql }] of lasts)
      await this.#of(world)
        .source.query(`BEGIN; ${sql.join("; ")}`)
        .then(
          () => begun.add(world),
          () => this.#of(world).source.query("ROLLBACK"),
        );
    const given = new AbortController();
    const signal = AbortSignal.any([given.signal, AbortSignal.timeout(FENCED_AT_MOST_MS)]);
    let isOver = false;
    const fenced = this.#fence(signal).then(
      (equal) => (equal ? null : "MISMATCH: the evidence differs"),
      (error: unknown) => {
        // The other one waits for what will not come.
        given.abort();
        return inWords(error);
      },
    );
    fenced.catch(() => undefined).finally(() => (isOver = true));
    if (begun.size > 0) {
      while (!isOver && !(await this.#isWaitedFor())) await sleep(2);
      const committing = [...begun].map(async (world) => {
        const { source, control } = this.#of(world);
        const committed = await source.query("COMMIT").then(
          () => true,
          () => false,
        );
        if (committed) await run(control, lasts.get(world) as Step);
        else await this.#reconnect(world);
      });
      await Promise.all(committing);
    }
    return await fenced;
  }

  /** Does a fence wait for writers? */
  async #isWaitedFor(): Promise<boolean> {
    const result = await this.#watch?.query(
      "SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    );
    return (result?.rowCount ?? 0) > 0;
  }

  /** A straggler was terminated. */
  async #reconnect(world: World): Promise<void> {
    const sessions = this.#of(world);
    await sessions.source.end().catch(() => undefined);
    const source = await this.#servers.source.connect(this.#name);
    await source.query(world.path);
    this.#sessions.set(world, { ...sessions, source });
  }

  async #contents(of: keyof Sessions, whose: "its" | "the residents'"): Promise<Map<World, string>> {
    const found = [...this.#sessions].map(async ([world, sessions]) => {
      const { rows } = await sessions[of].query(world.contents(whose));
      return [world, asText(rows)] as const;
    });
    return new Map(await Promise.all(found));
  }

  async #compare(residents: ReadonlyMap<World, string>): Promise<void> {
    const [source, control, target, after] = await Promise.all([
      this.#contents("source", "its"),
      this.#contents("control", "its"),
      this.#contents("target", "its"),
      this.#contents("target", "the residents'"),
    ]);
    for (const [world, ours] of source) {
      const compare = (what: string, theirs: string | undefined, expected: string | undefined) => {
        if (theirs !== expected)
          throw new Error(
            `EQUAL EVIDENCE, UNEQUAL DATA: ${what} in ${world.schema}:\n${theirs}\ninstead of\n${expected}`,
          );
      };
      compare("the target", target.get(world), ours);
      compare("the source, against the same without a move", ours, control.get(world));
      compare("residents of the target", after.get(world), residents.get(world));
    }
  }
}

/** @throws unless it names an object. */
function refusal(why: readonly string[]): Refusal {
  const text = why.join("; ");
  if (
    !/users|orgs|projects|issues|notes|settings|events|index_\d|MISMATCH/.test(text) ||
    /INTERNAL/.test(text)
  )
    throw new Error(`not a reason with an object's name: ${text}`);
  return { why: text.slice(0, 300) };
}
