/**
 * Applies a source's change stream to the target: the organizations' changes and nothing else, transaction by
 * transaction, each with its position in the same commit (a replication origin), so that a kill at any moment neither
 * loses nor repeats one.
 *
 * Whose a change is, is asked of the target itself, inside the same transaction: there the rows of these organizations
 * are as they were on the source at that point of the stream, so a row whose parents are theirs is theirs. A parent's
 * key that on the target belongs to somebody else's row leads to that owner, and the change is left alone. Runs of
 * inserts into one table are one statement.
 */
import type pg from "pg";
import { CleaveError } from "../../../../protocol/errors.ts";
import { quoteIdentifier, quoteLiteral } from "../guard/queryable.ts";
import type { MovedColumn, MovedTable, Moving } from "./moved-tables.ts";
import type { Message, RelationMessage, Value } from "./pgoutput.ts";
import { type ApplySession, beginApplying } from "./session.ts";

/** Rows of one statement at most. */
const BATCH_ROWS = 500;

interface Relation {
  readonly message: RelationMessage;
  /** Null: no organization's table. */
  readonly table: MovedTable | null;
}

export interface Applied {
  /** The position after which the source's next transaction begins. */
  readonly endLsn: string;
  readonly time: string;
}

export class Applier {
  readonly #db: pg.ClientBase;
  readonly #moving: Moving;
  readonly #byName: ReadonlyMap<string, MovedTable>;
  readonly #relations = new Map<number, Relation>();
  readonly #onMarker: (values: Readonly<Record<string, Value>>) => void;
  #inserts: { relation: Relation; rows: (readonly Value[])[] } | null = null;
  readonly #beginSql: string;
  #writing = false;
  #marker: Readonly<Record<string, Value>> | null = null;

  /**
   * @param db a connection with `APPLY_SETTINGS` and the origin's session
   * @param onMarker called with a row written to `cleave.marker` when everything up to its commit is durable here
   */
  constructor(
    db: pg.ClientBase,
    moving: Moving,
    onMarker: (values: Readonly<Record<string, Value>>) => void = () => undefined,
    session: ApplySession | undefined = undefined,
  ) {
    this.#beginSql = beginApplying(session);
    this.#db = db;
    this.#moving = moving;
    this.#byName = new Map(moving.tables.map((table) => [table.name, table]));
    this.#onMarker = onMarker;
  }

  /**
   * Resolves with the position when the message was a commit and is durable on the target; else with null.
   * @throws CleaveError MEMBERSHIP_CHANGED, SCHEMA_DIFFERS, CHANGE_NOT_APPLICABLE; then the transaction is rolled back.
   */
  async apply(message: Message): Promise<Applied | null> {
    switch (message.tag) {
      case "begin":
      case "other":
        return null;
      case "relation":
        this.#relate(message);
        return null;
      case "insert":
        await this.#insert(this.#relation(message.oid), message.values);
        return null;
      case "update":
        await this.#flush();
        await this.#update(this.#relation(message.oid), message.old, message.values);
        return null;
      case "delete":
        await this.#flush();
        await this.#delete(this.#relation(message.oid), message.old);
        return null;
      case "truncate": {
        const owned = message.oids.map((oid) => this.#relation(oid)).filter(({ table }) => table !== null);
        if (owned.length === 0) return null;
        throw new CleaveError(
          "CHANGE_NOT_APPLICABLE",
          `TRUNCATE of ${owned.map(({ table }) => table?.name).join(", ")} on the source: whose rows were removed is not in the stream`,
        );
      }
      case "commit":
        return await this.#commit(message.endLsn, message.time);
    }
  }

  /** Gives up what was begun; the stream has to be opened again from the origin's position. */
  async rollback(): Promise<void> {
    this.#inserts = null;
    this.#marker = null;
    if (this.#writing) await this.#db.query("ROLLBACK");
    this.#writing = false;
  }

  #relation(oid: number): Relation {
    const relation = this.#relations.get(oid);
    if (relation === undefined)
      throw new CleaveError("INTERNAL", `the stream changes the relation ${oid}, of which it has not told`);
    return relation;
  }

  #relate(message: RelationMessage): void {
    const name = `${message.schema}.${message.name}`;
    const table = this.#byName.get(name) ?? null;
    if (table !== null) {
      const known = new Set(table.columns.map((column) => column.name));
      const differs = message.columns
        .filter((column) => !known.has(column.name))
        .map((column) => column.name);
      if (differs.length > 0 || message.columns.length !== known.size)
        throw new CleaveError(
          "SCHEMA_DIFFERS",
          `${name} was altered on the source while it was being moved${differs.length > 0 ? `: ${differs.join(", ")}` : ""}`,
        );
    }
    this.#relations.set(message.oid, { message, table });
  }

  async #begin(): Promise<void> {
    if (this.#writing) return;
    await this.#db.query(this.#beginSql);
    this.#writing = true;
  }

  async #insert(relation: Relation, values: readonly Value[]): Promise<void> {
    if (relation.table === null) return this.#other(relation, values);
    // A batch is of one table alone, so a row's parents are applied before it.
    if (this.#inserts !== null && this.#inserts.relation !== relation) await this.#flush();
    this.#inserts ??= { relation, rows: [] };
    this.#inserts.rows.push(values);
    if (this.#inserts.rows.length >= BATCH_ROWS) await this.#flush();
  }

  #other({ message }: Relation, values: readonly Value[]): void {
    if (message.schema !== "cleave" || message.name !== "marker") return;
    this.#marker = Object.fromEntries(message.columns.map((column, at) => [column.name, values[at]]));
  }

  async #flush(): Promise<void> {
    const batch = this.#inserts;
    this.#inserts = null;
    if (batch === null || batch.relation.table === null) return;
    await this.#begin();
    const { message, table } = batch.relation;
    const columns = message.columns.map(({ name }) => quoteIdentifier(name));
    const typed = message.columns.map(
      (column) =>
        `"given".${quoteIdentifier(column.name)}::${typeOf(table, column.name)} AS ${quoteIdentifier(column.name)}`,
    );
    const arrays = message.columns.map((_, at) => `$${at + 1}::pg_catalog.text[]`);
    const chosen = columns.map((column) => `"row".${column}`).join(", ");
    await this.#run(
      table,
      "insert",
      `INSERT INTO ${table.quoted} (${columns.join(", ")}) OVERRIDING SYSTEM VALUE
       SELECT ${chosen} FROM (SELECT ${typed.join(", ")} FROM ROWS FROM (${arrays.map((array) => `pg_catalog.unnest(${array})`).join(", ")}) AS "given" (${columns.join(", ")}) OFFSET 0) AS "row"
       WHERE ${table.owner} = ANY (${this.#moving.texts})`,
      message.columns.map((_, at) => batch.rows.map((row) => row[at] ?? null)),
    );
  }

  async #update(relation: Relation, old: readonly Value[] | null, values: readonly Value[]): Promise<void> {
    const { message, table } = relation;
    if (table === null) return this.#other(relation, values);
    await this.#begin();
    const parameters: (string | null)[] = [];
    const given = (value: Value, name: string) => {
      parameters.push(value ?? null);
      return `$${parameters.length}::pg_catalog.text::${typeOf(table, name)}`;
    };
    const sets = message.columns.flatMap((column, at) =>
      values[at] === undefined || columnOf(table, column.name).fixed
        ? []
        : [`${quoteIdentifier(column.name)} = ${given(values[at], column.name)}`],
    );
    const where = table.key
      .map((name) => `"row".${quoteIdentifier(name)} = ${given(valueAt(message, old ?? values, name), name)}`)
      .join(" AND ");
    const { rows, rowCount } = await this.#run(
      table,
      "update",
      `UPDATE ${table.quoted} AS "row" SET ${sets.join(", ")} WHERE ${where} AND ${table.owner} = ANY (${this.#moving.texts}) RETURNING ${table.owner} AS owner`,
      parameters,
    );
    if (rowCount === 1) {
      const owner = (rows[0] as { owner: string | null }).owner;
      if (owner !== null && this.#moving.organizations.includes(owner as never)) return;
      throw membershipChanged(table, describe(message, values, table), `left for ${owner ?? "nobody known"}`);
    }
    // Somebody else's row, unless it has just become one of these organizations'.
    const columns = message.columns.map((column) => ({
      column,
      value: valueAt(message, values, column.name),
    }));
    const next: (string | null)[] = [];
    const list = columns.map(({ column, value }) => {
      next.push(value ?? null);
      return `$${next.length}::pg_catalog.text::${typeOf(table, column.name)} AS ${quoteIdentifier(column.name)}`;
    });
    const found = await this.#run(
      table,
      "update",
      `SELECT ${table.owner} AS owner FROM (SELECT ${list.join(", ")}) AS "row"`,
      next,
    );
    const after = (found.rows[0] as { owner: string | null } | undefined)?.owner ?? null;
    if (after !== null && this.#moving.organizations.includes(after as never))
      throw membershipChanged(table, describe(message, values, table), `came to ${after}`);
  }

  async #delete({ message, table }: Relation, old: readonly Value[]): Promise<void> {
    if (table === null) return;
    await this.#begin();
    const parameters = table.key.map((name) => valueAt(message, old, name) ?? null);
    const where = table.key
      .map(
        (name, at) => `"row".${quoteIdentifier(name)} = $${at + 1}::pg_catalog.text::${typeOf(table, name)}`,
      )
      .join(" AND ");
    // A row whose parent was deleted by this very transaction has no owner any more; one of somebody else has.
    await this.#run(
      table,
      "delete",
      `DELETE FROM ${table.quoted} AS "row" WHERE ${where} AND COALESCE(${table.owner} = ANY (${this.#moving.texts}), true)`,
      parameters,
    );
  }

  async #commit(endLsn: string, time: string): Promise<Applied> {
    await this.#flush();
    if (this.#writing) {
      // In the same transaction: the position is durable exactly when the changes are.
      await this.#db.query(
        `SELECT pg_catalog.pg_replication_origin_xact_setup(${quoteLiteral(endLsn)}, ${quoteLiteral(time)})`,
      );
      await this.#db.query("COMMIT");
      this.#writing = false;
    }
    const marker = this.#marker;
    this.#marker = null;
    if (marker !== null) this.#onMarker(marker);
    return { endLsn, time };
  }

  async #run(
    table: MovedTable,
    what: string,
    text: string,
    values: readonly unknown[],
  ): Promise<pg.QueryResult> {
    try {
      return await this.#db.query(text, [...values]);
    } catch (error) {
      const { code, detail, message } = error as { code?: string; detail?: string; message: string };
      // Constraints (23), values that the target refuses (22), names and types (42): trying again would not help.
      if (code !== undefined && /^(22|23|42)/.test(code))
        throw new CleaveError(
          "CHANGE_NOT_APPLICABLE",
          `${what} in ${table.name}: ${message}${detail === undefined ? "" : ` (${detail})`}`,
          { cause: error },
        );
      throw error;
    }
  }
}

function columnOf(table: MovedTable, name: string): MovedColumn {
  const found = table.columns.find((column) => column.name === name);
  if (found === undefined) throw new CleaveError("SCHEMA_DIFFERS", `${table.name} has no column ${name}`);
  return found;
}

const typeOf = (table: MovedTable, name: string) => columnOf(table, name).type;

function valueAt(message: RelationMessage, values: readonly Value[], column: string): Value {
  return values[message.columns.findIndex(({ name }) => name === column)];
}

function describe(message: RelationMessage, values: readonly Value[], table: MovedTable): string {
  return table.key.map((name) => `${name} ${valueAt(message, values, name)}`).join(", ");
}

function membershipChanged(table: MovedTable, row: string, what: string): CleaveError {
  return new CleaveError("MEMBERSHIP_CHANGED", `the row of ${table.name} with ${row} ${what}`);
}
