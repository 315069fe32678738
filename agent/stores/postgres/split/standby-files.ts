/**
 * What makes a copy of the source's data a standby under its own identity. All of it is in files that the source's
 * data does not bring along, or on the command line.
 */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { PodId } from "../../../../protocol/ids.ts";
import { type PeerPostgres, type PostgresConfig, passwordOf } from "../config.ts";
import { writeOwnedFile } from "../server/data-directory.ts";
import type { SystemUser } from "../server/run-as.ts";
import { readTextOrNull } from "../server/server.ts";
import { CONFIG_FILE } from "./copied-conf.ts";

const BEGIN = "# Begin of Cleave's settings; replaced as a whole.";
const END = "# End of Cleave's settings.";
const PASSFILE = "cleave.passfile";
/** In the data directory, included by postgresql.conf, and so weaker than `serverOptions` and ALTER SYSTEM. */
export const CARRIED_FILE = "cleave.carried.conf";
const INCLUDE_CARRIED = `include_if_exists '${CARRIED_FILE}'`;
const CARRIED =
  "# In force on the source when this Pod was copied, from its command line or from files outside of its data directory.";

/** Lists of the source that a standby may not have smaller (hot standby refuses to start otherwise). */
export const INHERITED_SETTINGS = [
  "max_connections",
  "max_worker_processes",
  "max_wal_senders",
  "max_prepared_transactions",
  "max_locks_per_transaction",
  "wal_level",
] as const;

export interface SourceFacts {
  /** Values of INHERITED_SETTINGS on the source. */
  readonly inherited: Readonly<Record<string, string>>;
  /** The source's pg_hba.conf and pg_ident.conf, which need not be in its data directory. */
  readonly hba: Uint8Array;
  readonly ident: Uint8Array;
  /** Settings that are in force there and come with no file of the data directory: see server-settings.ts. */
  readonly carried: Readonly<Record<string, string>>;
  /** Its postgresql.conf is the one of the data directory. */
  readonly usesCopiedFile: boolean;
  /** Until PostgreSQL 15 there is a file whose appearance promotes a standby. */
  readonly knowsTriggerFile: boolean;
}

/** One value in a configuration file, on one line: control characters are written by their octal numbers. */
export function quoteSetting(value: string): string {
  const escaped = value
    .replaceAll("\\", "\\\\")
    .replaceAll("'", "''")
    .replaceAll(/[\u0001-\u001f]/g, (one) => `\\${one.charCodeAt(0).toString(8).padStart(3, "0")}`);
  return `'${escaped}'`;
}

/** libpq's connection string: https://www.postgresql.org/docs/current/libpq-connect.html */
export function connectionString(parts: Readonly<Record<string, string>>): string {
  return Object.entries(parts)
    .map(([key, value]) => `${key}='${value.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`)
    .join(" ");
}

/** One field of a password file: https://www.postgresql.org/docs/current/libpq-pgpass.html */
function passfileField(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll(":", "\\:");
}

/** Settings on the command line of every start: what this server is, whatever its files say. */
export function commandLineSettings(config: PostgresConfig, podId: PodId): Record<string, string> {
  return {
    listen_addresses: config.host,
    // A socket folder of the source's machine need not exist here.
    unix_socket_directories: "",
    hot_standby: "on",
    ...config.serverOptions,
    ...TO_THE_END,
    port: String(config.port),
    cluster_name: podId,
  };
}

/**
 * A copy replays all that its source writes, at once, until Cleave promotes it. What is left in the source's settings of
 * its own restoration (a time to recover to) or of its time as a standby (a delay) would stop the copy somewhere, promote it,
 * or end it at the promotion.
 */
const TO_THE_END: Readonly<Record<string, string>> = {
  recovery_target: "",
  recovery_target_lsn: "",
  recovery_target_name: "",
  recovery_target_time: "",
  recovery_target_xid: "",
  recovery_target_action: "pause",
  recovery_target_timeline: "latest",
  recovery_min_apply_delay: "0",
};

/** Settings of the source that would be wrong on any other server. */
const NEUTRALISED: Readonly<Record<string, string>> = {
  // Waiting for the source's synchronous standbys would never end.
  synchronous_standby_names: "",
  // Two servers must not archive into one place.
  archive_mode: "off",
  restore_command: "",
  archive_cleanup_command: "",
  recovery_end_command: "",
};

/** Until `disableSubscriptions` is through: see there. */
export const WITHOUT_WORKERS = { max_logical_replication_workers: "0" } as const;

const FOLLOWING: Readonly<Record<string, string>> = {
  hot_standby_feedback: "off",
  wal_receiver_status_interval: "1s",
  wal_receiver_timeout: "10s",
  // Also the longest that a promotion can wait after the connection to the source was lost.
  wal_retrieve_retry_interval: "100ms",
  // Nobody but the agent reads here before the promotion; replay goes first.
  max_standby_streaming_delay: "10ms",
  max_standby_archive_delay: "10ms",
  ...WITHOUT_WORKERS,
};

function block(settings: Readonly<Record<string, string>>): string {
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${quoteSetting(value)}`);
  return [BEGIN, ...lines, END, ""].join("\n");
}

/** `text` without any block of Cleave's, also one that came with the source's data. */
export function withoutBlock(text: string): string {
  const kept: string[] = [];
  let inside = false;
  for (const line of text.split("\n")) {
    if (line === BEGIN) inside = true;
    if (!inside) kept.push(line);
    if (line === END) inside = false;
  }
  return kept.join("\n").trimEnd();
}

async function writeSettings(
  config: PostgresConfig,
  settings: Readonly<Record<string, string>>,
  runAs: SystemUser | null,
): Promise<void> {
  // Read last of all files, so it wins over what the source's administrators set.
  const path = join(config.dataDirectory, "postgresql.auto.conf");
  const before = withoutBlock((await readTextOrNull(path)) ?? "")
    .split("\n")
    // Said by Cleave's block alone, whose marks ALTER SYSTEM takes away.
    .filter((line) => !Object.keys(WITHOUT_WORKERS).some((name) => line.startsWith(`${name} = `)))
    .join("\n");
  await writeOwnedFile(path, `${before}\n${block(settings)}`, runAs);
}

function ownSettings(
  config: PostgresConfig,
  podId: PodId,
  facts: SourceFacts | null,
): Record<string, string> {
  return {
    ...facts?.inherited,
    ...NEUTRALISED,
    // An empty value is no way to have none.
    external_pid_file: join(config.dataDirectory, "external.pid"),
    hba_file: join(config.dataDirectory, "pg_hba.conf"),
    ident_file: join(config.dataDirectory, "pg_ident.conf"),
    // Also here, so that the server is itself when an administrator or a service manager starts it.
    ...commandLineSettings(config, podId),
  };
}

/** What a new Pod's server has whatever its source has, while it follows and afterwards. */
export function plannedSettings(config: PostgresConfig, podId: PodId): Readonly<Record<string, string>> {
  return { ...NEUTRALISED, ...commandLineSettings(config, podId) };
}

/** Turns a fresh copy, whose files `settleCopiedFiles` has been through, into a standby. Everything is synced when it resolves; nothing was started. */
export async function configureStandby(options: {
  readonly config: PostgresConfig;
  readonly podId: PodId;
  readonly source: PeerPostgres;
  readonly slot: string;
  readonly facts: SourceFacts;
  readonly runAs: SystemUser | null;
}): Promise<void> {
  const { config, podId, source, slot, facts, runAs } = options;
  const at = (name: string) => join(config.dataDirectory, name);
  const password = await passwordOf(source);
  if (password !== undefined) {
    const fields = [source.host, String(source.port), "*", source.user, password].map(passfileField);
    await writeOwnedFile(at(PASSFILE), `${fields.join(":")}\n`, runAs);
  }
  await writeOwnedFile(at("pg_hba.conf"), facts.hba, runAs);
  await writeOwnedFile(at("pg_ident.conf"), facts.ident, runAs);
  const settings = Object.entries(facts.carried).map(([name, value]) => `${name} = ${quoteSetting(value)}`);
  await writeOwnedFile(at(CARRIED_FILE), [CARRIED, ...settings, ""].join("\n"), runAs);
  const conf = await readFile(at(CONFIG_FILE), "latin1");
  if (!conf.includes(INCLUDE_CARRIED))
    await writeOwnedFile(at(CONFIG_FILE), Buffer.from(`${conf}\n${INCLUDE_CARRIED}\n`, "latin1"), runAs);
  const primary = connectionString({
    host: source.host,
    port: String(source.port),
    user: source.user,
    application_name: podId,
    ...(password === undefined ? {} : { passfile: at(PASSFILE) }),
  });
  await writeSettings(
    config,
    {
      ...ownSettings(config, podId, facts),
      ...FOLLOWING,
      ...(facts.knowsTriggerFile ? { promote_trigger_file: "" } : {}),
      primary_conninfo: primary,
      primary_slot_name: slot,
    },
    runAs,
  );
  // Last: without it the copy would start as a second primary of the same history.
  await writeOwnedFile(at("standby.signal"), "", runAs);
}

/**
 * Raises what a standby may not have smaller than its source, where the source's is larger by now; effective at the next
 * start. Resolves with what was raised, in words; empty when nothing was.
 */
export async function raiseInherited(
  config: PostgresConfig,
  source: Readonly<Record<string, string>>,
  runAs: SystemUser | null,
): Promise<readonly string[]> {
  const path = join(config.dataDirectory, "postgresql.auto.conf");
  let text = (await readTextOrNull(path)) ?? "";
  const raised: string[] = [];
  for (const name of INHERITED_SETTINGS) {
    const line = new RegExp(`^${name} = '(\\d+)'$`, "m");
    const [own, wanted] = [Number(line.exec(text)?.[1]), Number(source[name])];
    if (!(own < wanted)) continue;
    text = text.replace(line, `${name} = '${wanted}'`);
    raised.push(`${name} is ${own} here and ${wanted} on the source`);
  }
  if (raised.length > 0) await writeOwnedFile(path, text, runAs);
  return raised;
}

const NOTHING = new Uint8Array();
const SOURCE_KNOWN = /primary_conninfo = '[^'\n]/;

/** The settings still name a source: what the copy was made from is not forgotten. */
export async function knowsSource(config: PostgresConfig): Promise<boolean> {
  const text = await readTextOrNull(join(config.dataDirectory, "postgresql.auto.conf"));
  return text !== null && SOURCE_KNOWN.test(text);
}

/** Once promoted: nothing of the source is left in the settings; effective at the next reload. Idempotent. */
export async function forgetSource(
  config: PostgresConfig,
  podId: PodId,
  runAs: SystemUser | null,
): Promise<void> {
  const path = join(config.dataDirectory, "postgresql.auto.conf");
  const text = await readFile(path, "utf8").catch(() => "");
  if (SOURCE_KNOWN.test(text)) {
    const inherited = Object.fromEntries(
      INHERITED_SETTINGS.flatMap((name) => {
        const value = new RegExp(`^${name} = '([^'\\n]*)'$`, "m").exec(text)?.[1];
        return value === undefined ? [] : [[name, value]];
      }),
    );
    const own = ownSettings(config, podId, {
      inherited,
      hba: NOTHING,
      ident: NOTHING,
      carried: {},
      usesCopiedFile: true,
      knowsTriggerFile: false,
    });
    // Said in so many words, for ALTER SYSTEM rewrites the file without the comments that mark Cleave's block.
    await writeSettings(config, { ...own, primary_conninfo: "", primary_slot_name: "" }, runAs);
  }
  await rm(join(config.dataDirectory, PASSFILE), { force: true });
}
