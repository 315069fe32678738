/** What a new Pod has to be, and whether it reaches its source in every way that it will need. */
import { access, constants } from "node:fs/promises";
import { createServer } from "node:net";
import { dirname } from "node:path";
import type { Finding } from "../../../../protocol/evidence.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { spaceIn } from "../../machine/space.ts";
import type { PeerPostgres, PostgresConfig } from "../config.ts";
import { type PostgresStoreOptions, peerOf } from "../context.ts";
import { finding, guarded, withDatabase } from "../findings.ts";
import { checkReverseReplicationThere } from "../reverse/preflight.ts";
import { locateBinaries } from "../server/binaries.ts";
import { connect, type Database, discard } from "../server/connection.ts";
import { contentOf, isOurs } from "../server/data-directory.ts";
import { resolveRunAs } from "../server/run-as.ts";
import { CopyRecords } from "./copy-record.ts";
import { lineageProblem, readPosition } from "./lineage.ts";
import { checkCollations, checkCopiedServer } from "./preflight-copy.ts";
import { plannedDifferences, unplannedDifferences } from "./server-settings.ts";
import { notStreaming } from "./standby-server.ts";
import { PAUSED } from "./standby-watch.ts";

const SKEW_WARNING_MS = 1_000;
const SKEW_ERROR_MS = 5_000;
/** The copy itself, and the WAL that arrives while it is made. */
const SPACE_FACTOR = 1.1;
/** Less than this and a standby soon cannot store what it receives. */
const SPACE_FENCE_BYTES = 64 * 1024 * 1024;

async function checkDirectory(options: PostgresStoreOptions, duty: Duty): Promise<Finding[]> {
  const { dataDirectory } = options.config;
  const content = await contentOf(dataDirectory);
  if (content === null) {
    let parent = dirname(dataDirectory);
    while ((await contentOf(parent)) === null && parent !== dirname(parent)) parent = dirname(parent);
    return writable(parent);
  }
  if (content.length === 0) return writable(dataDirectory);
  // The leftover of an earlier attempt of this very migration is no data of anybody.
  const record = await new CopyRecords(options.stateDirectory).load(duty.migrationId);
  if (record && record.dataDirectory === dataDirectory && (await isOurs(record))) return [];
  return [
    finding(
      "error",
      "POSTGRES_NOT_EMPTY",
      `${dataDirectory} holds ${content.length} entries, ${content.slice(0, 3).join(", ")} among them`,
    ),
  ];
}

async function writable(path: string): Promise<Finding[]> {
  try {
    await access(path, constants.W_OK | constants.X_OK);
    return [];
  } catch {
    return [finding("error", "FILE_PERMISSION", `the agent cannot write to ${path}`)];
  }
}

async function checkPort(config: PostgresConfig): Promise<Finding[]> {
  const address = config.serverOptions["listen_addresses"] === undefined ? config.host : undefined;
  const problem = await new Promise<string | null>((resolve) => {
    const server = createServer();
    server.once("error", (error) => resolve(error.message));
    server.listen({ port: config.port, ...(address === undefined ? {} : { host: address }) }, () =>
      server.close(() => resolve(null)),
    );
  });
  return problem === null
    ? []
    : [
        finding(
          "error",
          "POSTGRES_SETTING",
          `the port ${config.port} of ${config.host} is not free: ${problem}`,
        ),
      ];
}

async function checkPrograms(options: PostgresStoreOptions, sourceMajorVersion: number): Promise<Finding[]> {
  const { config } = options;
  await resolveRunAs(config.runAs);
  const binaries = await locateBinaries({
    binDirectory: config.binDirectory,
    majorVersion: sourceMajorVersion,
  });
  if (binaries.majorVersion === sourceMajorVersion) return [];
  return [
    finding(
      "error",
      "POSTGRES_VERSION",
      `the source is PostgreSQL ${sourceMajorVersion}, the programs in ${binaries.directory} are ${binaries.majorVersion}`,
    ),
  ];
}

async function checkCopy(
  db: Database,
  { config, podId }: PostgresStoreOptions,
  version: number,
): Promise<Finding[]> {
  // Of programs that are missing is told already.
  const binaries = await locateBinaries({ binDirectory: config.binDirectory, majorVersion: version }).catch(
    () => null,
  );
  return await checkCopiedServer(db, config, podId, binaries);
}

/** The clocks are compared at the middle of the round trip. */
async function checkClock(db: Database, options: PostgresStoreOptions): Promise<Finding[]> {
  const { clock } = options;
  const before = clock.now();
  const { rows } = await db.query<{ now: number }>(
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now",
  );
  const after = clock.now();
  const skewMs = Math.abs((rows[0]?.now ?? Number.NaN) - (before + after) / 2);
  if (skewMs <= SKEW_WARNING_MS) return [];
  const severity = skewMs <= SKEW_ERROR_MS ? "warning" : "error";
  return [
    finding(severity, "CLOCK_SKEW", `this Pod's clock and the source's differ by ${Math.round(skewMs)} ms`),
  ];
}

async function checkSpace(db: Database, config: PostgresConfig): Promise<Finding[]> {
  const { rows } = await db.query<{ bytes: number }>(
    "SELECT sum(pg_database_size(oid))::float8 AS bytes FROM pg_database",
  );
  const neededBytes = Math.ceil((rows[0]?.bytes ?? Number.POSITIVE_INFINITY) * SPACE_FACTOR);
  const { freeBytes: free } = await spaceIn(config.dataDirectory, { writable: false });
  if (free >= neededBytes) return [];
  return [
    finding(
      "error",
      "DISK_FULL",
      `${config.dataDirectory} has ${free} bytes free; the source needs ${neededBytes} (its size and a tenth)`,
    ),
  ];
}

/** The replication protocol has its own entry in pg_hba.conf and its own right. */
export async function checkReplication(peer: PeerPostgres): Promise<Finding[]> {
  return guarded(async () => {
    const db = await connect(peer, { applicationName: "cleave-preflight", replication: "server" });
    try {
      await db.query("IDENTIFY_SYSTEM");
      return [];
    } finally {
      discard(db);
    }
  });
}

export async function checkTargetStart(options: PostgresStoreOptions, duty: Duty): Promise<Finding[]> {
  const { config } = options;
  const local = [guarded(() => checkDirectory(options, duty)), guarded(() => checkPort(config))];
  const remote = guarded(async () => {
    const peer = peerOf(options, duty);
    const overSql = await withDatabase(peer, async (db) => {
      const { rows } = await db.query<{ version: number; name: string }>(
        "SELECT current_setting('server_version_num')::int / 10000 AS version, current_setting('cluster_name') AS name",
      );
      const [server] = rows as [{ version: number; name: string }];
      const identity =
        server.name === duty.sourcePodId
          ? []
          : [
              finding(
                "error",
                "POSTGRES_IDENTITY",
                `the peer's cluster_name is ${JSON.stringify(server.name)}, not ${duty.sourcePodId}`,
              ),
            ];
      return [
        ...identity,
        ...(await guarded(() => checkPrograms(options, server.version))),
        ...(await checkClock(db, options)),
        ...(await checkSpace(db, config)),
        ...(await plannedDifferences(config, options.podId, peer)),
        ...(await guarded(() => checkCopy(db, options, server.version))),
      ];
    });
    // One cause, one finding.
    if (overSql.some((one) => one.code === "POSTGRES_UNREACHABLE")) return overSql;
    return [...overSql, ...(await checkReplication(peer))];
  });
  return (await Promise.all([...local, remote])).flat();
}

export function checkTargetFence(options: PostgresStoreOptions, duty: Duty): Promise<Finding[]> {
  const { config } = options;
  return withDatabase(config, async (own) => {
    const position = await readPosition(async (text) => (await own.query(text)).rows);
    const findings: Finding[] = [];
    if (position.clusterName !== options.podId)
      findings.push(
        finding(
          "error",
          "POSTGRES_IDENTITY",
          `cluster_name is ${JSON.stringify(position.clusterName)}, not ${options.podId}`,
        ),
      );
    if (position.inRecovery && !position.streaming)
      findings.push(finding("error", "POSTGRES_UNREACHABLE", (await notStreaming(options)).message));
    if (position.paused) findings.push(finding("error", "POSTGRES_SETTING", PAUSED));
    const { freeBytes: free } = await spaceIn(config.dataDirectory, { writable: false });
    if (free < SPACE_FENCE_BYTES)
      findings.push(finding("error", "DISK_FULL", `${config.dataDirectory} has only ${free} bytes free`));
    const lineage = await withDatabase(peerOf(options, duty), async (source) => {
      const wrong = lineageProblem(
        position,
        await readPosition(async (text) => (await source.query(text)).rows),
      );
      return [
        ...(wrong === null ? [] : [finding("error", "POSTGRES_LINEAGE", wrong)]),
        ...(await checkCollations(own, source)),
      ];
    });
    findings.push(...(await guarded(() => unplannedDifferences(config, peerOf(options, duty)))));
    return [...findings, ...lineage, ...(await checkReverseReplicationThere(own, options, duty))];
  });
}
