/**
 * Applies a source's change stream to the target: the organizations' changes and nothing else, in transactions that say
 * in the same commit how far they came (a replication origin), so that a kill at any moment neither loses nor repeats
 * one. A transaction of the target has one of the source, or several whole ones when they are there already.
 *
 * Whose a change is, is asked of the target itself, inside the same transaction: there the rows of these organizations
 * are as they were on the source at that point of the stream, so a row whose parents are theirs is theirs. A parent's
 * key that on the target belongs to somebody else's row leads to that owner, and the change is left alone. What a
 * change tells by itself, by a column that names the organization, is not asked at all.
 */
import pg from "pg";
import { CleaveError, invariant } from "../../../../protocol/errors.ts";
import { tally } from "../../../../protocol/telemetry/tally.ts";
import { quoteLiteral } from "../server/queryable.ts";
import type { MovedTable, Moving } from "./moved-tables.ts";
import type { Message, RelationMessage, Value } from "./pgoutput.ts";
import { inWords, isRefused, isTaken, misplaced } from "./refusals.ts";
import { type Kind, type Relation, type Run, Runs, type Taken } from "./runs.ts";
import { type ApplySession, beginApplying } from "./session.ts";
import { type Misplaced, removal, type Statement, statementOf } from "./statements.ts";
import type { SchemaChanges } from "./suspects.ts";
import { type Told, toldOf, valuesOf } from "./told.ts";
import type { Traits } from "./traits.ts";

/** Held in memory at most; then they go to the server, whatever is still to come of their transaction. */
const HELD = { changes: 5_000, bytes: 4 * 1024 * 1024 } as const;
/** Transactions of the source are applied together until then. */
const GROUP = { changes: 50_000, ms: 200 } as const;
/** Of `text[]`, as the stream writes it. */
const textsOf = pg.types.getTypeParser(1009 as never) as (text: string) => string[];
/** Statements that the server keeps prepared. */
const PREPARED = 1_000;

export interface Applied {
  /** The position after which the source's next transaction begins. */
  readonly endLsn: string;
  readonly time: string;
}

export interface ApplierOptions {
  readonly moving: Moving;
  readonly traits: ReadonlyMap<string, Traits>;
  /** Called with a row written to `cleave.marker` when everything up to its commit is durable here. */
  readonly onMarker?: ((values: Readonly<Record<string, Value>>) => void) | undefined;
  readonly session?: ApplySession | undefined;
  /** Each transaction of the source by itself: to find the one that cannot be applied. */
  readonly alone?: boolean;
  /** Transactions that the source itself applied from this origin are passed over: they came from here. */
  readonly without?: string | undefined;
  /** Changes of the schema are followed; without it they end the stream. */
  readonly changes?: SchemaChanges | undefined;
}

const PASSED: ReadonlySet<Message["tag"]> = new Set(["insert", "update", "delete", "truncate"]);

export class Applier {
  readonly #db: pg.ClientBase;
  readonly #options: ApplierOptions;
  readonly #organizations: ReadonlySet<string>;
  readonly #told = new Map<number, Told>();
  readonly #runs = new Runs();
  readonly #names = new Map<string, string>();
  readonly #beginSql: string;
  /** Of the target's transaction, once it was begun. */
  #begun: Promise<unknown> | null = null;
  /** What was sent last. */
  #flying: Promise<void> = Promise.resolve();
  /** What the open transaction of the target has of the source: whole transactions, and up to where. */
  #group: { transactions: number; changes: number; startedAt: number; end: Applied | null } | null = null;
  #marker: Readonly<Record<string, Value>> | null = null;
  /** The transaction that is being read came from here. */
  #passing = false;
  /** The transaction of the source that is being read. */
  #xid = 0;

  /** @param db a connection that pipelines, with `APPLY_SETTINGS` and the origin's session */
  constructor(db: pg.ClientBase, options: ApplierOptions) {
    this.#db = db;
    this.#options = options;
    this.#organizations = new Set(options.moving.organizations);
    this.#beginSql = beginApplying(options.session);
  }

  /** Transactions of the source that were not committed here. */
  get grouped(): number {
    return this.#group?.transactions ?? 0;
  }

  /**
   * Takes the next message; `more` says that others are waiting behind it. Null, or a promise of null, when nothing was
   * committed; else the position up to which everything is durable on the target.
   * @throws CleaveError MEMBERSHIP_CHANGED, SCHEMA_DIFFERS, REPLICA_IDENTITY_MISSING, CHANGE_NOT_APPLICABLE; then the
   * connection has to be given up, and the stream opened again from the origin's position.
   */
  apply(message: Message, more: boolean): Promise<Applied | null> | null {
    if (this.#passing && PASSED.has(message.tag)) return null;
    switch (message.tag) {
      case "origin":
        this.#passing = message.name === this.#options.without;
        return null;
      case "begin":
        this.#passing = false;
        this.#xid = message.xid;
        return this.#isLarge() ? this.settle() : null;
      case "relation":
        this.#relate(message);
        return null;
      case "insert":
        return this.#insert(this.#of(message.oid), message.values);
      case "update":
        return this.#update(this.#of(message.oid), message.old, message.values);
      case "delete":
        return this.#delete(this.#of(message.oid), message.old);
      case "truncate":
        return this.#truncate(message.oids.map((oid) => this.#of(oid)));
      case "commit":
        return this.#commit({ endLsn: message.endLsn, time: message.time }, more);
      case "other":
        return null;
    }
  }

  /** Commits what is complete. To be called between two transactions of the source alone. */
  async settle(): Promise<Applied | null> {
    const group = this.#group;
    if (group === null) return null;
    invariant(group.end !== null, "a transaction of the source is not complete");
    await this.#flush();
    await this.#flying;
    const { endLsn, time } = group.end;
    if (this.#begun !== null) {
      // In the same transaction: the position is durable exactly when the changes are.
      await this.#db.query(
        `SELECT pg_catalog.pg_replication_origin_xact_setup(${quoteLiteral(endLsn)}, ${quoteLiteral(time)}); COMMIT`,
      );
      this.#begun = null;
    }
    tally("postgres", "changes", group.changes);
    this.#group = null;
    const marker = this.#marker;
    this.#marker = null;
    if (marker !== null) this.#options.onMarker?.(marker);
    return group.end;
  }

  #of(oid: number): Told {
    const told = this.#told.get(oid);
    if (told === undefined)
      throw new CleaveError("INTERNAL", `the stream changes the relation ${oid}, of which it has not told`);
    return told;
  }

  #relate(message: RelationMessage): void {
    const { moving, traits, changes } = this.#options;
    const isPast = changes?.isKnown(this.#xid) === true;
    try {
      this.#told.set(message.oid, toldOf(message, moving, traits, isPast));
    } catch (error) {
      // What the plan does not know yet is no difference of the Pods.
      if (changes === undefined || isPast) throw error;
      throw new CleaveError("SCHEMA_CHANGED", (error as CleaveError).message, { cause: error });
    }
  }

  #insert(told: Told, sent: readonly Value[]): Promise<null> | null {
    if (told.relation === null) return this.#other(told, sent);
    const values = valuesOf(told, sent);
    if (told.own >= 0 && !this.#isTheirs(values[told.own])) return null;
    return this.#add("insert", told.relation, keyOf(told, values), values);
  }

  #update(told: Told, old: readonly Value[] | null, sent: readonly Value[]): Promise<null> | null {
    const { relation, own, ownInIdentity } = told;
    if (relation === null) return this.#other(told, sent);
    const values = valuesOf(told, sent);
    const before = old === null ? values : valuesOf(told, old);
    const key = keyOf(told, before);
    const rekeyed = told.key.some((at, index) => values[at] !== undefined && values[at] !== key[index]);
    const foreign = own >= 0 && values[own] !== undefined && !this.#isTheirs(values[own]);
    if (foreign && ownInIdentity && !this.#isTheirs(before[own])) return null;
    return this.#add(rekeyed ? "rekey" : foreign ? "foreign" : "update", relation, key, values);
  }

  #delete(told: Told, sent: readonly Value[]): Promise<null> | null {
    const { relation, own, ownInIdentity } = told;
    if (relation === null) return null;
    const old = valuesOf(told, sent);
    if (ownInIdentity && !this.#isTheirs(old[own])) return null;
    return this.#add("delete", relation, keyOf(told, old), []);
  }

  /** As the deletion of these organizations' rows that it is; a stream that does not follow changes of the schema ends. */
  #truncate(told: readonly Told[]): Promise<null> | null {
    const tables = told.flatMap(({ relation }) => relation?.table ?? []);
    if (tables.length === 0) return null;
    if (this.#options.changes === undefined)
      throw new CleaveError(
        "CHANGE_NOT_APPLICABLE",
        `TRUNCATE of ${tables.map(({ name }) => name).join(", ")} on the source: whose rows were removed is not in the stream`,
      );
    return this.#empty(tables);
  }

  /** Removes their rows of these tables, or of the partitions that `members` names (an array of texts, \`table a.b\`). */
  async #empty(tables: readonly MovedTable[], members?: string): Promise<null> {
    const group = this.#open();
    group.changes += 1;
    group.end = null;
    await this.#flush();
    await this.#flying;
    this.#begun ??= this.#db.query(this.#beginSql);
    await this.#begun;
    for (const table of [...tables].sort((a, b) => b.depth - a.depth)) {
      const { text, values } = removal(this.#options.moving, table, members);
      await this.#db.query(text, [...values]);
    }
    return null;
  }

  /** A row of Cleave's own tables. */
  #other({ message }: Told, values: readonly Value[]): Promise<null> | null {
    if (message.schema !== "cleave") return null;
    const row = Object.fromEntries(message.columns.map((column, at) => [column.name, values[at]]));
    if (message.name === "marker") this.#marker = row;
    return message.name === "schema_change" ? this.#change(row) : null;
  }

  /** At its place in the stream: what comes next is of another schema. */
  #change({ tag, objects, relations }: Readonly<Record<string, Value>>): Promise<null> | null {
    const { changes, moving } = this.#options;
    if (changes === undefined) return null;
    if (!changes.isKnown(this.#xid))
      throw new CleaveError("SCHEMA_CHANGED", `${tag} on the source: ${objects}`);
    const named = typeof relations === "string" ? textsOf(relations) : null;
    changes.suspects.note(named, moving);
    // Of a partition alone, the stream does not tell it.
    if (tag !== "TRUNCATE" || typeof objects !== "string") return null;
    return this.#empty(
      moving.tables.filter(({ name }) => named?.includes(name)),
      objects,
    );
  }

  #isTheirs(organization: Value): boolean {
    return typeof organization === "string" && this.#organizations.has(organization);
  }

  #add(
    kind: Kind,
    relation: Relation,
    key: readonly string[],
    values: readonly Value[],
  ): Promise<null> | null {
    this.#runs.add({ relation, kind, key, values });
    const group = this.#open();
    group.changes += 1;
    group.end = null;
    return this.#runs.size >= HELD.changes || this.#runs.bytes >= HELD.bytes ? this.#flush() : null;
  }

  #open() {
    this.#group ??= { transactions: 0, changes: 0, startedAt: performance.now(), end: null };
    return this.#group;
  }

  #isLarge(): boolean {
    const group = this.#group;
    if (group === null) return false;
    return group.changes >= GROUP.changes || performance.now() - group.startedAt >= GROUP.ms;
  }

  #commit(end: Applied, more: boolean): Promise<Applied | null> | null {
    const group = this.#open();
    group.end = end;
    group.transactions += 1;
    this.#runs.endTransaction();
    const waits = more && this.#marker === null && this.#options.alone !== true && !this.#isLarge();
    return waits ? null : this.settle();
  }

  /** Sends everything that is held, once the server has done what was sent before; the next is gathered meanwhile. */
  async #flush(): Promise<null> {
    await this.#flying;
    const taken = this.#runs.take();
    if (taken.runs.length === 0) return null;
    this.#flying = this.#applyTaken(taken);
    // Whoever waits for it next is told.
    this.#flying.catch(() => undefined);
    return null;
  }

  async #applyTaken({ runs, oneByOne }: Taken): Promise<void> {
    const single = runs.length === 1 && runs[0]?.changes.length === 1;
    const lenient = runs.some((run) => this.#isSuspect(run));
    if (!lenient && (single || !runs.some(({ relation }) => relation.contested)))
      return await this.#execute(runs);
    try {
      await this.#execute(runs, "together");
    } catch (error) {
      if (!isTaken(error) && !(lenient && isRefused(error))) throw error;
      // Rows gave each other a value that only one may have: in the order of the source they can.
      await this.#db.query("ROLLBACK TO SAVEPOINT together");
      if (!lenient) return await this.#execute(oneByOne());
      for (const run of oneByOne())
        if (this.#isSuspect(run)) await this.#attempt(run);
        else await this.#execute([run]);
    }
  }

  #isSuspect({ relation }: Run): boolean {
    return this.#options.changes?.suspects.has(relation.table.name) === true;
  }

  /** Of a table that is compared whole before long, which does what this cannot. */
  async #attempt(run: Run): Promise<void> {
    const replaced = run.kind === "insert" ? [[run], [{ ...run, kind: "delete" as const }, run]] : [[run]];
    for (const runs of replaced)
      try {
        return await this.#execute(runs, "attempt");
      } catch (error) {
        if (!isRefused(error)) throw error;
        await this.#db.query("ROLLBACK TO SAVEPOINT attempt");
      }
  }

  /** One statement for each run, sent together, within a savepoint when that has a name. */
  async #execute(runs: readonly Run[], savepoint: string | null = null): Promise<void> {
    const sent = runs.flatMap((run) => {
      const statement = statementOf(this.#options.moving, run);
      return statement === null ? [] : [{ run, statement }];
    });
    if (sent.length === 0) return;
    this.#begun ??= this.#db.query(this.#beginSql);
    const before = [this.#begun, ...(savepoint === null ? [] : [this.#db.query(`SAVEPOINT ${savepoint}`)])];
    const results = sent.map(({ run, statement }) => this.#send(statement, run.changes.length));
    const after = savepoint === null ? [] : [this.#db.query(`RELEASE SAVEPOINT ${savepoint}`)];
    // After the first failure the server refuses the others, so it is the one that tells.
    const settled = await Promise.allSettled([...before, ...results, ...after]);
    for (const [at, result] of settled.entries()) {
      const run = sent[at - before.length]?.run;
      if (result.status === "rejected") throw run === undefined ? result.reason : inWords(run, result.reason);
      if (run === undefined) continue;
      // One that is not there yet is no stranger's, where rows come and go by the partition.
      const rows = result.value as Misplaced[];
      for (const row of rows) if (!row.came || !this.#isSuspect(run)) throw misplaced(run, row);
    }
  }

  async #send({ text, values, absent }: Statement, rows: number): Promise<Misplaced[]> {
    const query = { text, values: [...values], ...this.#nameOf(text) };
    const result = await this.#db.query<Misplaced & pg.QueryResultRow>(query);
    if (absent === undefined || result.rowCount === rows) return result.rows;
    // In a transaction that has failed meanwhile nothing can be asked, and what failed is the reason.
    return await this.#send(absent, 0).catch((error: { code?: string }) => {
      if (error.code === "25P02") return [];
      throw error;
    });
  }

  /** Of the first so many statements; who has more tables has them planned each time. */
  #nameOf(text: string): { name?: string } {
    const known = this.#names.get(text);
    if (known !== undefined) return { name: known };
    if (this.#names.size >= PREPARED) return {};
    const name = `cleave ${this.#names.size}`;
    this.#names.set(text, name);
    return { name };
  }
}

function keyOf({ key, message }: Told, values: readonly Value[]): string[] {
  return key.map((at) => {
    const value = values[at];
    if (typeof value === "string") return value;
    throw new CleaveError("INTERNAL", `a change of ${message.schema}.${message.name} is without its key`);
  });
}
