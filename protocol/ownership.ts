/** The rules file (`ownership.yaml`): which organization owns a table's row, a repository, an object. */
import { z } from "zod";

/** `schema.table`, as written in the catalog (no quoting; hostile, always quoted when used). */
const TableName = z.string().regex(/^[^.\u0000]{1,63}\.[^.\u0000]{1,63}$/u, "write a table as schema.table");
const Column = z.string().min(1).max(63);

export const TableRule = z.union([
  /** The column holds the organization's key. */
  z.strictObject({ organization: Column }),
  /** The columns hold the key of a row of `parent`; that row's owner owns this row. `parentKey` defaults to `id`. */
  z.strictObject({
    parent: TableName,
    column: z.union([Column, z.array(Column).min(1)]),
    parentKey: z.union([Column, z.array(Column).min(1)]).default("id"),
  }),
  /** `(type, id)`: the type's value names the parent table (a polymorphic pair). Other values have no owner. */
  z.strictObject({
    typeColumn: Column,
    idColumn: Column,
    parents: z.record(z.string(), TableName),
    parentKey: Column.default("id"),
  }),
  /** Of the whole cluster (users): stays writable on the cluster's default Pod, and refused elsewhere. */
  z.strictObject({ clusterWide: z.literal(true) }),
  /** Shared by content (LFS objects): rows are immutable and may be added on every Pod. */
  z.strictObject({ shared: z.literal(true) }),
  /** Of one Pod (schema versions, queues): not fenced. */
  z.strictObject({ local: z.literal(true) }),
]);
export type TableRule = z.infer<typeof TableRule>;

export const Ownership = z.strictObject({
  version: z.literal(1),
  /** The table of organizations; `key` cast to text is the OrganizationId. */
  root: z.strictObject({ table: TableName, key: Column.default("id") }),
  tables: z.record(TableName, TableRule),
  repositories: z
    .strictObject({
      /** A query with columns `path` (relative to the Git root, with `.git`) and `organization` (text). */
      sql: z.string().min(1),
    })
    .optional(),
  objects: z
    .array(
      z.union([
        /** A key that starts with `prefix` belongs to the organization whose id is the key's next segment. */
        z.strictObject({ prefix: z.string(), organization: z.literal("next-segment") }),
        /** Content-addressed, immutable, owned by nobody alone. */
        z.strictObject({ prefix: z.string(), shared: z.literal(true) }),
      ]),
    )
    .default([]),
  /** Which objects rows name: they are looked for before a fence and at it. */
  objectKeys: z
    .strictObject({
      /** A query with the column `key` (text). */
      sql: z.string().min(1),
    })
    .optional(),
});
export type Ownership = z.infer<typeof Ownership>;
