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
import type pg from "pg";
import { CleaveError, invariant } from "../../../../protocol/errors.ts";
import { tally } from "../../../../protocol/telemetry/tally.ts";
import { quoteLiteral } from "../fence/queryable.ts";
import type { Moving } from "./moved-tables.ts";
import type { Message, RelationMessage, Value } from "./pgoutput.ts";
import { type Change, type Kind, type Relation, type Run, Runs, type Taken } from "./runs.ts";
import { type ApplySession, beginApplying } from "./session.ts";
import { type Misplaced, ownColumn, type Statement, statementOf } from "./statements.ts";
import type { Traits } from "./traits.ts";

/** Held in memory at most; then they go to the server, whatever is still to come of their transaction. */
const HELD = { changes: 5_000, bytes: 4 * 1024 * 1024 } as const;
/** Transactions of the source are applied together until then. */
const GROUP = { changes: 50_000, ms: 200 } as const;
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
}

const PASSED: ReadonlySet<Message["tag"]> = new Set(["insert", "update", "delete", "truncate"]);

/** What the stream told of a relation; without a table when it is no organization's. */
interface Told {
  readonly message: RelationMessage;
  readonly relation: Relation | null;
  /** Where in a row the organization is named, and whether the old row has it too; -1 when it is not. */
  readonly own: number;
  readonly ownInIdentity: boolean;
  /** Where in a row its key is. */
  readonly key: readonly number[];
}

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
        return this.#truncate(message.oids);
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
    const name = `${message.schema}.${message.name}`;
    const table = this.#options.moving.tables.find((one) => one.name === name);
    const traits = this.#options.traits.get(name);
    if (table === undefined || traits === undefined) {
      this.#told.set(message.oid, { message, relation: null, own: -1, ownInIdentity: false, key: [] });
      return;
    }
    const known = new Set(table.columns.map((column) => column.name));
    const differs = message.columns.filter((column) => !known.has(column.name)).map((column) => column.name);
    if (differs.length > 0 || message.columns.length !== known.size)
      throw new CleaveError(
        "SCHEMA_DIFFERS",
        `${name} was altered on the source while it was being moved${differs.length > 0 ? `: ${differs.join(", ")}` : ""}`,
      );
    const position = new Map(message.columns.map((column, at) => [column.name, at]));
    const at = (column: string) => position.get(column) ?? -1;
    const key = table.key.map(at);
    // Else the key of a row that was deleted would be NULL in the stream, and the row would stay.
    if (key.some((one) => message.columns[one]?.key !== true))
      throw new CleaveError(
        "REPLICA_IDENTITY_MISSING",
        `the replica identity of ${name} on the source is without ${table.key.join(", ")}`,
      );
    const column = ownColumn(table);
    const own = column === null ? -1 : at(column);
    const ownInIdentity = message.columns[own]?.key === true;
    this.#told.set(message.oid, {
      message,
      relation: { message, position, table, ...traits },
      own,
      ownInIdentity,
      key,
    });
  }

  #insert(told: Told, values: readonly Value[]): Promise<null> | null {
    if (told.relation === null) return this.#other(told, values);
    if (told.own >= 0 && !this.#isTheirs(values[told.own])) return null;
    return this.#add("insert", told.relation, keyOf(told, values), values);
  }

  #update(told: Told, old: readonly Value[] | null, values: readonly Value[]): Promise<null> | null {
    const { relation, own, ownInIdentity } = told;
    if (relation === null) return this.#other(told, values);
    const before = old ?? values;
    const key = keyOf(told, before);
    const rekeyed = told.key.some((at, index) => values[at] !== undefined && values[at] !== key[index]);
    const foreign = own >= 0 && values[own] !== undefined && !this.#isTheirs(values[own]);
    if (foreign && ownInIdentity && !this.#isTheirs(before[own])) return null;
    return this.#add(rekeyed ? "rekey" : foreign ? "foreign" : "update", relation, key, values);
  }

  #delete(told: Told, old: readonly Value[]): Promise<null> | null {
    const { relation, own, ownInIdentity } = told;
    if (relation === null) return null;
    if (ownInIdentity && !this.#isTheirs(old[own])) return null;
    return this.#add("delete", relation, keyOf(told, old), []);
  }

  #truncate(oids: readonly number[]): null {
    const owned = oids.flatMap((oid) => this.#of(oid).relation?.table.name ?? []);
    if (owned.length === 0) return null;
    throw new CleaveError(
      "CHANGE_NOT_APPLICABLE",
      `TRUNCATE of ${owned.join(", ")} on the source: whose rows were removed is not in the stream`,
    );
  }

  #other({ message }: Told, values: readonly Value[]): null {
    if (message.schema === "cleave" && message.name === "marker")
      this.#marker = Object.fromEntries(message.columns.map((column, at) => [column.name, values[at]]));
    return null;
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
    if (single || !runs.some(({ relation }) => relation.contested)) return await this.#execute(runs);
    try {
      await this.#execute(runs, "together");
    } catch (error) {
      if (!isTaken(error)) throw error;
      // Rows gave each other a value that only one may have: in the order of the source they can.
      await this.#db.query("ROLLBACK TO SAVEPOINT together");
      await this.#execute(oneByOne());
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
      if (run !== undefined) for (const row of result.value as Misplaced[]) throw misplaced(run, row);
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

/** unique_violation, exclusion_violation */
const isTaken = (error: unknown) =>
  error instanceof CleaveError && ["23505", "23P01"].includes((error.cause as { code?: string })?.code ?? "");

function keyOf({ key, message }: Told, values: readonly Value[]): string[] {
  return key.map((at) => {
    const value = values[at];
    if (typeof value === "string") return value;
    throw new CleaveError("INTERNAL", `a change of ${message.schema}.${message.name} is without its key`);
  });
}

function misplaced(run: Run, { at, came, owner }: Misplaced): CleaveError {
  const { table } = run.relation;
  const change = run.changes[Number(at) - 1] as Change;
  const row = table.key.map((name, index) => `${name} ${change.key[index]}`).join(", ");
  const column = ownColumn(table);
  const next =
    owner ?? change.values[run.relation.message.columns.findIndex(({ name }) => name === column)] ?? null;
  const what = came ? `came to ${next}` : `left for ${next ?? "nobody known"}`;
  return new CleaveError("MEMBERSHIP_CHANGED", `the row of ${table.name} with ${row} ${what}`);
}

function inWords(run: Run, error: unknown): unknown {
  const { code, detail, message } = error as { code?: string; detail?: string; message: string };
  // Constraints (23), values that the target refuses (22), names and types (42): trying again would not help.
  if (code === undefined || !/^(22|23|42)/.test(code)) return error;
  return new CleaveError(
    "CHANGE_NOT_APPLICABLE",
    `${run.kind} in ${run.relation.table.name}: ${message}${detail === undefined ? "" : ` (${detail})`}`,
    { cause: error },
  );
}
