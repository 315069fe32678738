/**
 * The settings of a new Pod's server. Those of the source that its data does not bring along (a configuration file outside
 * of the data directory, a command line) are carried in a file of their own; those that belong to one server alone are
 * planned otherwise and named before anything begins; and before the fence both servers are asked whether they agree.
 */
import type { Finding } from "../../../../protocol/evidence.ts";
import type { PodId } from "../../../../protocol/ids.ts";
import type { Endpoint, PostgresConfig } from "../config.ts";
import { finding } from "../findings.ts";
import { connect, type Database, discard } from "../server/connection.ts";
import { CARRIED_FILE, INHERITED_SETTINGS, plannedSettings, WITHOUT_WORKERS } from "./standby-files.ts";

const LISTED = 20;
/** A list of hosts, or a program's arguments, may be long. */
const SHOWN_CHARACTERS = 100;

/** Of one server and its machine: addresses, files, logs, archives, standbys, memory of the kernel. */
const OF_ONE_SERVER = new RegExp(
  `^(${[
    "port|cluster_name|listen_addresses|unix_socket_.*|bonjour.*",
    "data_directory|config_file|hba_file|ident_file|external_pid_file",
    "primary_.*|restore_command|archive_.*|recovery_.*|promote_trigger_file|synchronous_standby_names|synchronized_standby_slots|sync_replication_slots|hot_standby.*|max_standby_.*|wal_receiver_.*|wal_retrieve_retry_interval",
    "ssl|ssl_.*_file|ssl_crl_dir|krb_server_keyfile",
    "logging_collector|log_destination|log_directory|log_file.*|log_rotation_.*|log_truncate_on_rotation|syslog_.*|event_source",
    "huge_pages.*|shared_memory_.*|dynamic_shared_memory_type|stats_temp_directory",
    ...Object.keys(WITHOUT_WORKERS),
    "cleave\\..*",
  ].join("|")})$`,
);

/** What a session has of itself. */
const OF_SESSIONS =
  /^(application_name|client_encoding|transaction_(isolation|read_only|deferrable)|session_authorization|role|is_superuser|in_hot_standby|seed)$/;

interface Setting {
  readonly name: string;
  readonly setting: string;
  /** Given when the server was started, or by its environment. */
  readonly atStart: boolean;
  /** The file that says it, relative to the data directory where it is in it; null when no file does. */
  readonly file: string | null;
  readonly internal: boolean;
}

async function readSettings(endpoint: Endpoint): Promise<Setting[]> {
  const db = await connect(endpoint, { applicationName: "cleave-settings", asConfigured: true });
  try {
    // Not as a role that sessions begin as: not everybody sees everything.
    await db.query("SET ROLE none");
    return [...(await readSettingsOf(db)), ...(await readCustom(db))];
  } finally {
    discard(db);
  }
}

const IN_DATA_DIRECTORY = `CASE WHEN pg_catalog.starts_with(sourcefile, pg_catalog.current_setting('data_directory') || '/')
  THEN pg_catalog.substr(sourcefile, pg_catalog.length(pg_catalog.current_setting('data_directory')) + 2) ELSE sourcefile END AS file`;

async function readSettingsOf(db: Database): Promise<Setting[]> {
  const { rows } = await db.query<Setting>(
    `SELECT name, coalesce(setting, '') AS setting, context = 'internal' AS internal,
       source IN ('command line', 'environment variable') AS "atStart", ${IN_DATA_DIRECTORY}
     FROM pg_catalog.pg_settings ORDER BY name`,
  );
  return rows;
}

/**
 * Settings that only an application knows (`myapp.region`): pg_settings does not list them, so they are read where they are
 * said: in the files, and in the command line of the server's last start.
 */
async function readCustom(db: Database): Promise<Setting[]> {
  const { rows } = await db.query<Setting>(
    `SELECT DISTINCT ON (pg_catalog.lower(said.name)) pg_catalog.lower(said.name) AS name, coalesce(said.setting, '') AS setting,
       false AS "atStart", ${IN_DATA_DIRECTORY}, false AS internal
     FROM pg_catalog.pg_file_settings AS said WHERE said.name LIKE '%.%' AND said.error IS NULL
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_settings AS known WHERE pg_catalog.lower(known.name) = pg_catalog.lower(said.name))
     ORDER BY pg_catalog.lower(said.name), said.seqno DESC`,
  );
  const { rows: starts } = await db.query<{ line: Buffer | null; known: string[] }>(
    `SELECT pg_catalog.pg_read_binary_file('postmaster.opts', 0, 1000000, true) AS line,
       ARRAY(SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE name LIKE '%.%') AS known`,
  );
  const custom = new Map(rows.map((row) => [row.name, row]));
  for (const [, name = "", setting = ""] of (starts[0]?.line?.toString() ?? "").matchAll(CUSTOM_AT_START))
    if (!starts[0]?.known.includes(name.toLowerCase()))
      custom.set(name.toLowerCase(), {
        name: name.toLowerCase(),
        setting,
        atStart: true,
        file: null,
        internal: false,
      });
  return [...custom.values()];
}

/** PostgreSQL writes each argument between double quotes. */
const CUSTOM_AT_START = /"(?:-c\s*|--)?([a-z_][\w$]*(?:\.[a-z_][\w$]*)+)=([^"]*)"/gi;

/**
 * What has to be carried to a copy of the source's data, by name: what is in force there and in none of the files that
 * have `arrived` with the copy.
 */
export async function readCarried(
  source: Endpoint,
  arrived: ReadonlySet<string>,
): Promise<Readonly<Record<string, string>>> {
  const inherited: readonly string[] = INHERITED_SETTINGS;
  const carried = (await readSettings(source)).filter(
    ({ name, atStart, file, internal }) =>
      // A copy that was carried once has its own file of it, which is written anew.
      (atStart || (file !== null && (!arrived.has(file) || file === CARRIED_FILE))) &&
      !internal &&
      !OF_ONE_SERVER.test(name) &&
      !OF_SESSIONS.test(name) &&
      !inherited.includes(name),
  );
  return Object.fromEntries(carried.map(({ name, setting }) => [name, setting]));
}

/** A difference in one of these is felt by applications or loses something that they count on. */
const MATTERS = /^(archive_mode|synchronous_standby_names|ssl)$/;
/** What is told of those that a new Pod does not have as its source. */
const TOLD = [
  "archive_mode",
  "synchronous_standby_names",
  "ssl",
  "listen_addresses",
  "unix_socket_directories",
] as const;

/** Before anything begins: what the new Pod's server will not have as its source, by plan. */
export async function plannedDifferences(
  config: PostgresConfig,
  podId: PodId,
  source: Endpoint,
): Promise<Finding[]> {
  const planned = plannedSettings(config, podId);
  const settings = new Map((await readSettings(source)).map(({ name, setting }) => [name, setting]));
  return TOLD.flatMap((name) => {
    // Its files are not carried, and a copied postgresql.conf that names them may keep the server from starting.
    const [own, of] = [planned[name], settings.get(name)];
    if (own === undefined || of === undefined || own === of) return [];
    return [
      finding(
        MATTERS.test(name) ? "warning" : "info",
        "POSTGRES_SETTING",
        `${name} is ${shown(of)} on the source and will be ${shown(own)} on this Pod: set it in postgres.serverOptions if it is to be another`,
      ),
    ];
  });
}

/** Right before the fence: what the two servers do not have alike, though neither the plan nor the operator says so. */
export async function unplannedDifferences(config: PostgresConfig, source: Endpoint): Promise<Finding[]> {
  const [own, other] = await Promise.all([readSettings(config), readSettings(source)]);
  const there = new Map(other.map(({ name, setting }) => [name, setting]));
  const here = new Map(own.map(({ name, setting }) => [name, setting]));
  const inherited: readonly string[] = INHERITED_SETTINGS;
  const internal = new Set([...own, ...other].flatMap((one) => (one.internal ? [one.name] : [])));
  const different = [...new Set([...here.keys(), ...there.keys()])].sort().filter(
    (name) =>
      here.get(name) !== there.get(name) &&
      !internal.has(name) &&
      !OF_ONE_SERVER.test(name) &&
      !OF_SESSIONS.test(name) &&
      // A standby may have more than its source.
      !inherited.includes(name) &&
      config.serverOptions[name] === undefined,
  );
  const findings = different
    .slice(0, LISTED)
    .map((name) =>
      finding(
        "warning",
        "POSTGRES_SETTING",
        `${name} is ${shown(there.get(name))} on the source and ${shown(here.get(name))} on this Pod: set it here (ALTER SYSTEM, and a reload or restart), or in postgres.serverOptions if that is meant`,
      ),
    );
  const more = different.slice(LISTED);
  return more.length === 0
    ? findings
    : [...findings, finding("warning", "POSTGRES_SETTING", `and ${more.length} more: ${more.join(", ")}`)];
}

function shown(value: string | undefined): string {
  return value === undefined ? "not known" : JSON.stringify(value.slice(0, SHOWN_CHARACTERS));
}
