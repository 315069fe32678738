/** What would be removed, said before it is; and what speaks against it. Changes nothing. */
import type { Finding } from "../../../../protocol/evidence.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { counted, formatAmount } from "../../../../protocol/wording.ts";
import type { PostgresStoreOptions } from "../context.ts";
import { finding } from "../findings.ts";
import { readSchema } from "../inventory/schema.ts";
import { settingsSql } from "../replication/session.ts";
import {
  connect,
  cutWhenAborted,
  type Database,
  describeEndpoint,
  discard,
  toPostgresError,
} from "../server/connection.ts";
import { readPosition } from "../split/lineage.ts";
import { ambiguousParents, type Measured, measure } from "./measure.ts";
import { findReferences } from "./references.ts";
import { findDormant, keepsItsOwn, notAllowed } from "./scope.ts";
import { dormantTables } from "./tables.ts";

/** Tables with the most of what would go; the others are in the sum alone. */
const LISTED = 20;
/** Of what could be many, how many a message names. */
const NAMED = 5;

/** Takes as long as there are rows to be counted: nobody waits for it but the operator who asked. */
export async function checkRemoval(
  options: PostgresStoreOptions,
  duty: Duty,
  signal: AbortSignal,
): Promise<Finding[]> {
  if (keepsItsOwn(duty) && duty.shares[duty.podId] !== "opened") return [leftToTheOperator(options)];
  let db: Database | null = null;
  try {
    const own = await connect(options.config, { applicationName: "cleave-preflight" });
    db = own;
    return await cutWhenAborted(
      signal,
      () => discard(own),
      () => check(own, options, duty, signal),
    );
  } catch (error) {
    signal.throwIfAborted();
    const known = toPostgresError(error, describeEndpoint(options.config));
    return [finding("error", known.code, known.message)];
  } finally {
    if (db !== null) discard(db);
  }
}

/** Of a target of a split that gave its share back. */
export function leftToTheOperator({ config }: PostgresStoreOptions): Finding {
  return info(
    `this Pod never opened, so nothing is removed here: its data directory ${config.dataDirectory} is the operator's to delete`,
  );
}

async function check(
  db: Database,
  options: PostgresStoreOptions,
  duty: Duty,
  signal: AbortSignal,
): Promise<Finding[]> {
  const { ownership, podId } = options;
  const { clusterName, inRecovery } = await readPosition(async (text) => (await db.query(text)).rows);
  if (clusterName !== podId || inRecovery)
    return [
      finding(
        "error",
        "POSTGRES_IDENTITY",
        `the server is ${clusterName || "nameless"}${inRecovery ? ", a standby" : ""}, and has to be the primary of ${podId}`,
      ),
    ];
  await db.query(settingsSql({ jit: "off" }));
  const { dormant, held } = await findDormant(db, duty, ownership);
  const findings: Finding[] = [];
  // Whoever holds it ends by itself; a split's target removes the others meanwhile.
  if (held.length > 0)
    findings.push(
      finding(keepsItsOwn(duty) ? "warning" : "error", "REMOVAL_NOT_ALLOWED", notAllowed(held).message),
    );
  if (dormant.length === 0) return [...findings, info("nothing is dormant here: no rows would be removed")];
  const schema = await readSchema(db);
  const disputed = await ambiguousParents(db, schema, ownership);
  const measured: Measured[] = [];
  for (const table of dormantTables(schema, ownership)) {
    signal.throwIfAborted();
    measured.push(await measure(db, table, dormant));
  }
  disputed.push(...measured.flatMap((one) => one.disputed ?? []));
  if (disputed.length > 0)
    findings.push(finding("error", "REMOVAL_DISAGREES", disputed.slice(0, NAMED).join("; ")));
  for (const reference of await findReferences(db, schema, ownership, dormant))
    findings.push(finding("error", "REMOVAL_REFERENCED", reference));
  return [...findings, ...describe(measured, dormant.length)];
}

function describe(measured: readonly Measured[], organizations: number): Finding[] {
  const filled = measured.filter(({ rows }) => rows > 0).sort((a, b) => b.bytes - a.bytes || b.rows - a.rows);
  const sum = (of: (one: Measured) => number) => filled.reduce((total, one) => total + of(one), 0);
  return [
    info(
      `${counted(
        sum(({ rows }) => rows),
        "row",
      )} in ${counted(filled.length, "table")}, about ${formatAmount(
        sum(({ bytes }) => bytes),
        "bytes",
      )}, of ${counted(organizations, "organization")} would be removed`,
    ),
    ...filled
      .slice(0, LISTED)
      .map(({ table, rows, bytes }) =>
        info(`${table.name}: ${counted(rows, "row")}, about ${formatAmount(bytes, "bytes")}`),
      ),
  ];
}

const info = (message: string): Finding => finding("info", "DORMANT_DATA", message);
