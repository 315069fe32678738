/**
 * What a copy of the source would not start with, or not go on with as its source does, although it was copied well: seen
 * in the source's settings and files before anything is copied.
 */
import { access, constants } from "node:fs/promises";
import { dirname, isAbsolute, join, normalize } from "node:path";
import type { Finding } from "../../../../protocol/evidence.ts";
import type { PodId } from "../../../../protocol/ids.ts";
import type { PostgresConfig } from "../config.ts";
import { finding } from "../findings.ts";
import type { Binaries } from "../server/binaries.ts";
import type { Database } from "../server/connection.ts";
import { readPosition } from "./lineage.ts";
import { readSourceFacts } from "./source-facts.ts";

const NAMED = 10;

const error = (message: string) => finding("error", "POSTGRES_SETTING", message);
const warning = (message: string) => finding("warning", "POSTGRES_SETTING", message);

/** `db` is connected to the source. Changes nothing. */
export async function checkCopiedServer(
  db: Database,
  config: PostgresConfig,
  podId: PodId,
  binaries: Binaries | null,
): Promise<Finding[]> {
  const settings = await readNamed(db);
  const position = await readPosition(async (text) => (await db.query(text)).rows);
  const facts = await readSourceFacts(db);
  const there = (name: string) => settings.get(name) ?? "";
  /** As the new Pod's server will have it. */
  const here = (name: string) => config.serverOptions[name] ?? there(name);
  return [
    ...historyProblem(position.timeline, position.history),
    ...authenticationFiles("hba_file", facts.hba, settings),
    ...authenticationFiles("ident_file", facts.ident, settings),
    ...smallerThanSource(config, facts.inherited),
    ...countedAsSynchronous(there("synchronous_standby_names"), podId),
    ...(await checkFiles(here)),
    ...(binaries === null ? [] : await checkLibraries(db, here, binaries)),
  ];
}

async function readNamed(db: Database): Promise<ReadonlyMap<string, string>> {
  const { rows } = await db.query<{ name: string; setting: string }>(
    "SELECT name, coalesce(setting, '') AS setting FROM pg_catalog.pg_settings",
  );
  return new Map(rows.map(({ name, setting }) => [name, setting]));
}

function historyProblem(timeline: number, history: readonly string[] | null): Finding[] {
  if (history !== null) return [];
  const file = `${timeline.toString(16).toUpperCase().padStart(8, "0")}.history`;
  return [
    finding(
      "error",
      "POSTGRES_LINEAGE",
      `the source is on timeline ${timeline} and has no pg_wal/${file}, without which no copy can follow it: put it back from an archive`,
    ),
  ];
}

/** Of such a file's text, what it reads from other files: `@names` where names are listed, and (from 16 on) whole files. */
function referencesIn(bytes: Uint8Array): string[] {
  return Buffer.from(bytes)
    .toString("latin1")
    .split("\n")
    .flatMap((line) => {
      const said = line.replace(/^((?:[^"#]|"[^"]*")*)#.*$/, "$1");
      const [, whole] = /^\s*include(?:_if_exists|_dir)?\s+"?([^"]+?)"?\s*$/.exec(said) ?? [];
      const names = [...said.matchAll(/(?:^|[\s,])@"?([^",\s]+)/g)].map(([, name]) => name as string);
      return whole === undefined ? names : [whole, ...names];
    });
}

function authenticationFiles(
  name: "hba_file" | "ident_file",
  bytes: Uint8Array,
  settings: ReadonlyMap<string, string>,
): Finding[] {
  const [file = "", dataDirectory = ""] = [settings.get(name), settings.get("data_directory")];
  const comesAlong = (path: string) =>
    dirname(file) === normalize(dataDirectory) && !isAbsolute(path) && !normalize(path).startsWith("..");
  const away = [...new Set(referencesIn(bytes))].filter((path) => !comesAlong(path));
  if (away.length === 0) return [];
  return [
    error(
      `${file} of the source reads ${away.slice(0, NAMED).join(", ")}, which a copy does not bring along, so its server would not start: write what is in there into ${file} itself`,
    ),
  ];
}

function smallerThanSource(config: PostgresConfig, inherited: Readonly<Record<string, string>>): Finding[] {
  return Object.entries(inherited).flatMap(([name, wanted]) => {
    const own = config.serverOptions[name];
    if (own === undefined || !(Number(own) < Number(wanted))) return [];
    return [
      error(
        `${name} is ${wanted} on the source and ${own} in postgres.serverOptions: a standby may not have less, so give it at least ${wanted} until the Pod has opened`,
      ),
    ];
  });
}

/** A copy that the source waits for holds up all of its commits when it is slow, and is missing when it was promoted. */
function countedAsSynchronous(names: string, podId: PodId): Finding[] {
  const list = names.replace(/^\s*(?:(?:FIRST|ANY)\s+)?\d+\s*\((.*)\)\s*$/i, "$1");
  const listed = list
    .split(",")
    .map((name) => name.trim().replace(/^"(.*)"$/, "$1"))
    .find((name) => name === "*" || name.toLowerCase() === podId.toLowerCase());
  if (listed === undefined) return [];
  return [
    warning(
      `synchronous_standby_names of the source (${JSON.stringify(names)}) counts the copy too: its commits may wait for this Pod, which stops following at the transfer; name there the standbys that are meant`,
    ),
  ];
}

/** Files and folders that the settings name by an absolute path have to be on this machine as well. */
async function checkFiles(here: (name: string) => string): Promise<Finding[]> {
  const findings: Finding[] = [];
  const missing = async (path: string) =>
    await access(path, constants.R_OK).then(
      () => false,
      () => true,
    );
  if (here("ssl") === "on")
    for (const name of ["ssl_cert_file", "ssl_key_file", "ssl_ca_file", "ssl_crl_file", "ssl_dh_params_file"])
      if (isElsewhere(here(name)) && (!isAbsolute(here(name)) || (await missing(here(name)))))
        findings.push(
          error(
            `${name} of the source is ${here(name)}, which is not on this Pod's machine, so a copy's server would not start: put it there, or set ${name} in postgres.serverOptions`,
          ),
        );
  const logs = here("log_directory");
  if (here("logging_collector") === "on" && isElsewhere(logs))
    findings.push(
      (await missing(dirname(logs)))
        ? error(
            `log_directory of the source is ${logs}, and there is no ${dirname(logs)} here, so a copy's server would not start: set log_directory in postgres.serverOptions`,
          )
        : warning(
            `log_directory is ${logs}, as on the source: where both are on one machine they write into the same files, unless postgres.serverOptions sets another`,
          ),
    );
  return findings;
}

/** Not in the data directory. */
function isElsewhere(path: string): boolean {
  return path !== "" && (isAbsolute(path) || normalize(path).startsWith(".."));
}

const LIBRARIES = `
SELECT DISTINCT pg_catalog.regexp_replace(probin, '^\\$libdir/', '') AS library FROM pg_catalog.pg_proc WHERE probin ~ '^\\$libdir/[^/]+$' ORDER BY 1`;

/** Of extensions: what functions of the Pod's database and the start of the server load from PostgreSQL's own folder. */
async function checkLibraries(
  db: Database,
  here: (name: string) => string,
  binaries: Binaries,
): Promise<Finding[]> {
  const folder = await libraryFolder(binaries);
  // Libraries may then be anywhere.
  if (folder === null || here("dynamic_library_path") !== "$libdir") return [];
  const { rows } = await db.query<{ library: string }>(LIBRARIES);
  const preloaded = here("shared_preload_libraries")
    .split(",")
    .map((name) => name.trim().replace(/^"(.*)"$/, "$1"))
    .filter((name) => name !== "" && !name.includes("/"));
  const absent: string[] = [];
  for (const name of new Set([...preloaded, ...rows.map(({ library }) => library)]))
    if (!(await isThere(join(folder, name.endsWith(".so") ? name : `${name}.so`)))) absent.push(name);
  if (absent.length === 0) return [];
  return [
    finding(
      "error",
      "POSTGRES_TOOL_MISSING",
      `the source uses libraries of extensions that PostgreSQL in ${binaries.directory} does not have: ${absent.slice(0, NAMED).join(", ")}; install them here`,
    ),
  ];
}

/** Where packages put it, beside the programs; null when it is elsewhere. */
async function libraryFolder({ directory }: Binaries): Promise<string | null> {
  for (const folder of [
    join(directory, "../lib"),
    join(directory, "../lib/postgresql"),
    join(directory, "../lib64"),
  ])
    if (await isThere(join(folder, "plpgsql.so"))) return folder;
  return null;
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

const COLLATIONS = `
SELECT 'database ' || datname AS name, coalesce(pg_catalog.pg_database_collation_actual_version(oid), '') AS version FROM pg_catalog.pg_database
UNION ALL SELECT DISTINCT 'collation ' || c.oid::pg_catalog.regcollation, coalesce(pg_catalog.pg_collation_actual_version(c.oid), '') FROM pg_catalog.pg_collation AS c
  WHERE EXISTS (SELECT FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS r ON r.oid = a.attrelid
    WHERE a.attcollation = c.oid AND r.relkind = 'i' AND r.relnamespace <> 'pg_catalog'::pg_catalog.regnamespace)`;

/**
 * Collations that the two servers' machines order by other versions: indexes of text that were copied are then in another
 * order than the copy's server looks for, which finds no rows that are there, and takes unique values twice.
 */
export async function checkCollations(own: Database, source: Database): Promise<Finding[]> {
  type Row = { name: string; version: string };
  const [here, there] = await Promise.all([own.query<Row>(COLLATIONS), source.query<Row>(COLLATIONS)]);
  const versions = new Map(there.rows.map(({ name, version }) => [name, version]));
  const other = here.rows.filter(({ name, version }) => versions.has(name) && versions.get(name) !== version);
  if (other.length === 0) return [];
  const named = other
    .slice(0, NAMED)
    .map(({ name, version }) => `${name} (${versions.get(name)} there, ${version} here)`);
  return [
    error(
      `the source's machine and this one order text by other versions of the same collations, so that copied indexes would not fit: ${named.join(", ")}; use the same libraries (libc, ICU) on both`,
    ),
  ];
}
