/** What a source's server has to be and allow. */
import type { Finding } from "../../../protocol/evidence.ts";
import type { PodId } from "../../../protocol/ids.ts";
import type { MigrationKind } from "../../../protocol/plan.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { saveChecked } from "./checked-states.ts";
import type { PostgresStoreOptions } from "./context.ts";
import { readCheckedState } from "./fence/checked.ts";
import { finding, withDatabase } from "./findings.ts";
import { checkCatalog, checkFenceable, missingOrganizations } from "./inventory/catalog-checks.ts";
import { checkReverseReplicationHere } from "./reverse/preflight.ts";
import { SUPPORTED_MAJOR_VERSIONS } from "./server/binaries.ts";
import type { Database } from "./server/connection.ts";
import { checkActiveObjects } from "./split/active-objects.ts";
import { overlappingNumbers, unloggedSequences } from "./split/numbering.ts";
import { backName, readSlots, slotName } from "./split/slots.ts";

/** Of missing organizations, how many a message names. */
const NAMED = 20;

interface ServerRow {
  readonly version: number;
  readonly in_recovery: boolean;
  readonly superuser: boolean;
  readonly tablespaces: string[];
  readonly prepared: string[];
  readonly slots_used: number;
  readonly senders_used: number;
  readonly settings: Readonly<Record<string, string>>;
}

async function readServer(db: Database): Promise<ServerRow> {
  const { rows } = await db.query<ServerRow>(
    `SELECT current_setting('server_version_num')::int / 10000 AS version, pg_is_in_recovery() AS in_recovery,
      (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
      ARRAY(SELECT spcname::text FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')) AS tablespaces,
      ARRAY(SELECT gid FROM pg_prepared_xacts) AS prepared,
      (SELECT count(*)::int FROM pg_replication_slots) AS slots_used,
      (SELECT count(*)::int FROM pg_stat_replication) AS senders_used,
      (SELECT jsonb_object_agg(name, setting) FROM pg_settings WHERE name IN ('wal_level', 'max_wal_senders',
        'max_replication_slots', 'max_slot_wal_keep_size', 'cluster_name', 'full_page_writes', 'fsync',
        'synchronous_commit', 'wal_sender_timeout', 'idle_replication_slot_timeout')) AS settings`,
  );
  return rows[0] as ServerRow;
}

function checkIdentity(server: ServerRow, podId: PodId): Finding[] {
  const findings: Finding[] = [];
  if (server.in_recovery)
    findings.push(
      finding("error", "POSTGRES_SETTING", "the server is a standby; the migration needs its primary"),
    );
  const name = server.settings["cluster_name"];
  if (name !== podId)
    findings.push(
      finding("error", "POSTGRES_IDENTITY", `cluster_name is ${JSON.stringify(name ?? "")}, not ${podId}`),
    );
  if (!server.superuser)
    findings.push(
      finding(
        "error",
        "POSTGRES_AUTHENTICATION",
        "the agent's user is no superuser: guards and slots need one",
      ),
    );
  return findings;
}

function checkPrepared(server: ServerRow): Finding[] {
  return server.prepared.map((gid) =>
    finding(
      "error",
      "POSTGRES_PREPARED_TRANSACTION",
      `the prepared transaction ${JSON.stringify(gid)} is open`,
    ),
  );
}

/** `targets` more walsenders and slots; while copying a target uses a second walsender for the data. */
export function checkSettings(
  settings: Readonly<Record<string, string>>,
  used: { readonly senders: number; readonly slots: number },
  targets: number,
  kind: MigrationKind = "split",
): Finding[] {
  const findings: Finding[] = [];
  const setting = (severity: Finding["severity"], message: string) =>
    findings.push(finding(severity, "POSTGRES_SETTING", message));
  const level = settings["wal_level"];
  if (kind === "move" ? level !== "logical" : level !== "replica" && level !== "logical")
    setting(
      "error",
      `wal_level is ${level}; it has to be ${kind === "move" ? "logical" : "replica or logical"}`,
    );
  const senders = Number(settings["max_wal_senders"]);
  if (senders - used.senders < 2 * targets)
    setting(
      "error",
      `max_wal_senders is ${senders} and ${used.senders} are in use; ${2 * targets} more are needed`,
    );
  const slots = Number(settings["max_replication_slots"]);
  if (slots - used.slots < targets)
    setting(
      "error",
      `max_replication_slots is ${slots} and ${used.slots} are in use; ${targets} more are needed`,
    );
  if (settings["max_slot_wal_keep_size"] !== "-1")
    setting(
      "warning",
      `max_slot_wal_keep_size is ${settings["max_slot_wal_keep_size"]} MB: a target that is further behind can never catch up`,
    );
  // From PostgreSQL 18 on.
  if ((settings["idle_replication_slot_timeout"] ?? "0") !== "0")
    setting(
      "warning",
      "idle_replication_slot_timeout is set: a target that is away for longer can never catch up; set it to 0 until the migration is over",
    );
  for (const name of ["full_page_writes", "fsync"])
    if (settings[name] !== "on")
      setting("warning", `${name} is ${settings[name]}: a crash of the source can damage it`);
  if (settings["synchronous_commit"] === "off")
    setting("warning", "synchronous_commit is off: a crash of the source loses writes that it acknowledged");
  return findings;
}

export function checkSourceStart(options: PostgresStoreOptions, duty: Duty): Promise<Finding[]> {
  return withDatabase(options.config, async (db) => {
    const server = await readServer(db);
    const versions: readonly number[] = SUPPORTED_MAJOR_VERSIONS;
    if (!versions.includes(server.version))
      return [finding("error", "POSTGRES_VERSION", `the server is PostgreSQL ${server.version}`)];
    const findings = [
      ...checkIdentity(server, options.podId),
      ...checkSettings(
        server.settings,
        { senders: server.senders_used, slots: server.slots_used },
        duty.targetPodIds.length,
        duty.kind,
      ),
    ];
    findings.push(...(await checkWholeServer(db, server, options, duty)));
    const catalog = await checkCatalog(db, options.ownership);
    findings.push(...catalog);
    // Without a readable root table there is nothing to look the organizations up in.
    if (!catalog.some((one) => one.severity === "error"))
      findings.push(
        ...(await checkPlan(db, options, duty)),
        ...(await checkNumbers(db, duty)),
        ...(await checkReverseReplicationHere(db, options, duty)),
      );
    return findings;
  });
}

/** What a copy of the whole server would bring along, or not, beyond the tables. It may come at any time, so it is asked at each. */
async function checkWholeServer(
  db: Database,
  server: ServerRow,
  options: PostgresStoreOptions,
  duty: Duty,
): Promise<Finding[]> {
  const outside = server.tablespaces.map((name) =>
    finding("error", "POSTGRES_TABLESPACE", `the tablespace ${name} is outside of it`),
  );
  if (duty.kind !== "split") return outside;
  return [
    ...(await checkActiveObjects(db, options, duty)),
    ...outside,
    ...(await unloggedSequences(db, options.ownership)).map((one) =>
      finding("error", "POSTGRES_UNFENCEABLE", one),
    ),
  ];
}

async function checkPlan(db: Database, options: PostgresStoreOptions, duty: Duty): Promise<Finding[]> {
  const missing = await missingOrganizations(db, options.ownership, [...duty.assignments.keys()]);
  if (missing.length === 0) return [];
  const named = missing.slice(0, NAMED).join(", ");
  const more = missing.length > NAMED ? ` and ${missing.length - NAMED} more` : "";
  return [finding("error", "PLAN_UNKNOWN_ORGANIZATION", `not on the source: ${named}${more}`)];
}

async function checkNumbers(db: Database, duty: Duty): Promise<Finding[]> {
  if (duty.kind !== "split" || duty.settings.numbering !== "apart") return [];
  const overlapping = await overlappingNumbers(db, [duty.sourcePodId, ...duty.targetPodIds]);
  return overlapping.slice(0, NAMED).map((one) => finding("warning", "SEQUENCES_OVERLAP", one));
}

export function checkSourceFence(options: PostgresStoreOptions, duty: Duty): Promise<Finding[]> {
  return withDatabase(options.config, async (db) => {
    // First, so that what changes while it is looked at counts as changed.
    const state = await readCheckedState(db);
    const server = await readServer(db);
    const findings = [...checkIdentity(server, options.podId), ...checkPrepared(server)];
    findings.push(...(await checkFenceable(db, options.ownership)));
    if (duty.kind === "split") findings.push(...(await checkWholeServer(db, server, options, duty)));
    // What only comes and goes is no part of it; and a state in which something was wrong is never compared with.
    if (state !== null && !findings.some(({ severity }) => severity === "error"))
      await saveChecked(options.stateDirectory, duty.migrationId, state);
    const nameOf = (target: PodId) =>
      duty.of === null ? slotName(duty.migrationId, target) : backName(duty.of, duty.podId);
    const names = duty.targetPodIds.map(nameOf);
    const active = new Set(
      (await readSlots(db, names)).filter((slot) => slot.active).map((slot) => slot.name),
    );
    for (const target of duty.targetPodIds)
      if (!active.has(nameOf(target)))
        findings.push(finding("error", "POSTGRES_UNREACHABLE", `${target} does not stream from the source`));
    return findings;
  });
}
