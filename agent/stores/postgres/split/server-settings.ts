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
  /** Neither a default nor in a file that the data directory brings along. */
  readonly outside: boolean;
  readonly internal: boolean;
}

async function readSettings(endpoint: Endpoint): Promise<Setting[]> {
  const db = await connect(endpoint, { applicationName: "cleave-settings", asConfigured: true });
  try {
    return await readSettingsOf(db);
  } finally {
    discard(db);
  }
}

async function readSettingsOf(db: Database): Promise<Setting[]> {
  const { rows } = await db.query<Setting>(
    `SELECT name, coalesce(setting, '') AS setting, context = 'internal' AS internal,
       source IN ('command line', 'environment variable') OR (source = 'configuration file'
         AND (starts_with(sourcefile, current_setting('data_directory') || '/') IS NOT TRUE OR sourcefile LIKE '%/${CARRIED_FILE}')) AS outside
     FROM pg_catalog.pg_settings ORDER BY name`,
  );
  return rows;
}

/** What has to be carried to a copy of the source's data, by name. */
export async function readCarried(source: Endpoint): Promise<Readonly<Record<string, string>>> {
  const inherited: readonly string[] = INHERITED_SETTINGS;
  const carried = (await readSettings(source)).filter(
    ({ name, outside, internal }) =>
      outside &&
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
