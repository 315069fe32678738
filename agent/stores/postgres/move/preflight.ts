/** What a Pod has to be to take organizations in while it serves others. Changes nothing. */
import type { Finding } from "../../../../protocol/evidence.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { type PostgresStoreOptions, peerOf } from "../context.ts";
import { isGuarded, verifyGuard } from "../fence/install.ts";
import { isOwned, rulesOf } from "../fence/owner-sql.ts";
import { finding, guarded, withDatabase } from "../findings.ts";
import { checkCatalog } from "../inventory/catalog-checks.ts";
import { readSchema } from "../inventory/schema.ts";
import { type Moving, planMove } from "../replication/moved-tables.ts";
import { checkReverseReplicationThere } from "../reverse/preflight.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier } from "../server/queryable.ts";
import { checkReplication } from "../split/preflight-target.ts";
import { slotName } from "../split/slots.ts";
import { conflictingReferences } from "../verification/references.ts";
import { findCrossings, findRows } from "./collisions.ts";
import { narrowerTypes } from "./narrower-types.ts";
import { checkInterference, checkOrigins, checkRefusals } from "./refusals.ts";
import { overlappingSequences } from "./sequences.ts";
import { takenValues } from "./taken-values.ts";

/** Of what could be many, how many a message names. */
const NAMED = 5;

export function checkMoveTargetStart(options: PostgresStoreOptions, duty: Duty): Promise<Finding[]> {
  return withDatabase(options.config, async (target) => {
    const peer = peerOf(options, duty);
    return withDatabase(peer, async (source) => [
      ...(await checkServers(options, duty, source, target)),
      ...(await checkReplication(peer)),
      ...(await checkReverseReplicationThere(target, options, duty)),
      ...(await guarded(() => checkCatalog(target, options.ownership))),
      ...(await guarded(() => checkResidents(options, duty, target))),
      ...(await guarded(() => checkContents(options, duty, source, target))),
    ]);
  });
}

interface ServerRow {
  readonly version: number;
  readonly name: string;
  readonly in_recovery: boolean;
  readonly superuser: boolean;
  readonly encoding: string;
  readonly collation: string;
  readonly extensions: string[];
}

async function readServer(db: Database): Promise<ServerRow> {
  const { rows } = await db.query<ServerRow>(
    `SELECT current_setting('server_version_num')::int / 10000 AS version, current_setting('cluster_name') AS name,
      pg_is_in_recovery() AS in_recovery, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
      pg_encoding_to_char(encoding) AS encoding, datcollate || '/' || datctype AS collation,
      ARRAY(SELECT extname::text FROM pg_extension ORDER BY 1) AS extensions
     FROM pg_database WHERE datname = current_database()`,
  );
  return rows[0] as ServerRow;
}

async function checkServers(
  options: PostgresStoreOptions,
  duty: Duty,
  source: Database,
  target: Database,
): Promise<Finding[]> {
  const [ours, theirs] = [await readServer(target), await readServer(source)];
  const findings: Finding[] = [];
  const error = (code: Parameters<typeof finding>[1], message: string) =>
    findings.push(finding("error", code, message));
  if (ours.name !== options.podId)
    error("POSTGRES_IDENTITY", `cluster_name is ${JSON.stringify(ours.name)}, not ${options.podId}`);
  if (theirs.name !== duty.sourcePodId)
    error(
      "POSTGRES_IDENTITY",
      `the peer's cluster_name is ${JSON.stringify(theirs.name)}, not ${duty.sourcePodId}`,
    );
  if (ours.in_recovery) error("POSTGRES_SETTING", "the server is a standby; a move needs its primary");
  if (!ours.superuser)
    error("POSTGRES_AUTHENTICATION", "the agent's user is no superuser: copies and guards need one");
  if (ours.version < theirs.version)
    error("POSTGRES_VERSION", `this server is PostgreSQL ${ours.version}, the source ${theirs.version}`);
  if (ours.encoding !== theirs.encoding)
    error("SCHEMA_DIFFERS", `this database's encoding is ${ours.encoding}, the source's ${theirs.encoding}`);
  if (ours.collation !== theirs.collation)
    findings.push(
      finding(
        "warning",
        "SCHEMA_DIFFERS",
        `this database sorts as ${ours.collation}, the source as ${theirs.collation}: lists may come in another order`,
      ),
    );
  const absent = theirs.extensions.filter((name) => !ours.extensions.includes(name));
  if (absent.length > 0)
    error("SCHEMA_DIFFERS", `extensions of the source that are not here: ${absent.join(", ")}`);
  return findings;
}

/** Organizations that are served here without a route would be refused as soon as there is a guard. */
async function checkResidents(
  options: PostgresStoreOptions,
  duty: Duty,
  target: Database,
): Promise<Finding[]> {
  if (duty.defaultPodId === duty.podId) return [];
  if (await isGuarded(target)) return [];
  const { root } = options.ownership;
  const [schema = "", table = ""] = root.table.split(".");
  const { rows } = await target.query<{ id: string; total: number }>(
    `SELECT ${quoteIdentifier(root.key)}::text AS id, (count(*) OVER ())::int AS total
       FROM ${quoteIdentifier(schema)}.${quoteIdentifier(table)}
      WHERE ${quoteIdentifier(root.key)}::text <> ALL ($1::text[]) LIMIT ${NAMED}`,
    [[...duty.assignments.keys()]],
  );
  const [first] = rows;
  if (first === undefined) return [];
  return [
    finding(
      "error",
      "TARGET_HOLDS_ORGANIZATION",
      `${first.total} organizations are here that the cluster's routes send to ${duty.defaultPodId} (${rows.map(({ id }) => id).join(", ")}): their writes would be refused`,
    ),
  ];
}

async function checkContents(
  options: PostgresStoreOptions,
  duty: Duty,
  source: Database,
  target: Database,
): Promise<Finding[]> {
  const theirs = await readSchema(source);
  const ours = await readSchema(target);
  const organizations = [...duty.assignments.keys()];
  const moving = planMove(theirs, ours, options.ownership, organizations);
  const findings: Finding[] = [];
  const say = (code: Parameters<typeof finding>[1], messages: readonly string[]) => {
    if (messages.length > 0) findings.push(finding("error", code, messages.slice(0, NAMED).join("; ")));
  };
  say("TARGET_HOLDS_ORGANIZATION", await findRows(target, moving));
  say("SCHEMA_DIFFERS", await narrowerTypes(source, target, moving, { source: theirs, target: ours }));
  say("KEY_COLLISION", await takenValues(source, target, moving));
  say("SEQUENCES_OVERLAP", await overlappingSequences(source, target, ownedTables(options), duty));
  say("CROSS_ORGANIZATION_ROWS", await findCrossings(source, moving, theirs));
  say("SHARED_ROW_CONFLICT", await conflictingReferences(source, target, moving));
  findings.push(
    ...(await checkInterference(target, quotedOf(moving))),
    ...(await checkOrigins(target, slotName(duty.migrationId, duty.podId))),
    ...(await checkRefusals({ source, target, moving, schemas: { source: theirs, target: ours } })),
  );
  return findings;
}

const quotedOf = (moving: Moving) => moving.tables.map(({ quoted }) => quoted);
const ownedTables = ({ ownership }: PostgresStoreOptions): string[] =>
  [...rulesOf(ownership)].filter(([, rule]) => isOwned(rule)).map(([table]) => table);

export function checkMoveTargetFence(options: PostgresStoreOptions, duty: Duty): Promise<Finding[]> {
  return withDatabase(options.config, async (own) => {
    const { name, in_recovery: inRecovery } = await readServer(own);
    const identity =
      name === options.podId && !inRecovery
        ? []
        : [finding("error", "POSTGRES_IDENTITY", `the server is ${name}${inRecovery ? ", a standby" : ""}`)];
    const schema = await readSchema(own);
    const moving = planMove(schema, schema, options.ownership, [...duty.assignments.keys()]);
    return [
      ...identity,
      ...(await verifyGuard(own, options.ownership)),
      ...(await checkInterference(own, quotedOf(moving))),
      ...(await checkSequences(options, duty, own)),
    ];
  });
}

/** Anybody may have set a sequence since the move began. */
async function checkSequences(
  options: PostgresStoreOptions,
  duty: Duty,
  target: Database,
): Promise<Finding[]> {
  if (duty.kind !== "move") return [];
  return withDatabase(peerOf(options, duty), async (source) => {
    const found = await overlappingSequences(source, target, ownedTables(options), duty);
    return found.length === 0
      ? []
      : [finding("error", "SEQUENCES_OVERLAP", found.slice(0, NAMED).join("; "))];
  });
}
