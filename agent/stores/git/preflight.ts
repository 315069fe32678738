/** Checks before anything is changed, and again before the fence. They change nothing. */
import { access, constants, readdir, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { type CleaveError, toCleaveError } from "../../../protocol/errors.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { Limiter } from "../common/limiter.ts";
import { repositoryChecksum } from "./backend/folder/checksum.ts";
import { readRepositoryFiles } from "./backend/folder/repository-files.ts";
import { fileExists, ignoring, scanRoot } from "./backend/folder/repository-path.ts";
import { type GitOptions, runGit } from "./backend/folder/run-git.ts";
import type { GitContext } from "./context.ts";
import { SourceFeed } from "./replication/source-feed.ts";

export const OLDEST_GIT = [2, 31] as const;
/** From here on the hook sees changes of symbolic references. */
export const HEAD_IN_HOOK_GIT = [2, 46] as const;
const CONCURRENCY = 4;
/** Less than this is full for all purposes. */
const MIN_FREE_BYTES = 256 * 1024 * 1024;

type Severity = Finding["severity"];

function finding(code: Finding["code"], message: string, severity: Severity = "error"): Finding {
  return { store: "git", severity, code, message: message.slice(0, 2_000) };
}

/** Major and minor number, or null when git says something else. */
export async function gitVersion(git: GitOptions): Promise<readonly [number, number] | null> {
  const { stdout } = await runGit(["version"], git);
  const match = /^git version (\d+)\.(\d+)/.exec(stdout.toString("latin1"));
  return match ? [Number(match[1]), Number(match[2])] : null;
}

export function isOlder(version: readonly [number, number], than: readonly [number, number]): boolean {
  return version[0] < than[0] || (version[0] === than[0] && version[1] < than[1]);
}

async function checkGit(context: GitContext): Promise<Finding[]> {
  const version = await gitVersion(context.git).catch((error: unknown) => toCleaveError(error));
  if (version === null || version instanceof Error)
    return [finding("CONFIG_INVALID", `git: ${version?.message ?? "its version is not known"}`)];
  if (!isOlder(version, OLDEST_GIT)) return [];
  return [finding("CONFIG_INVALID", `git ${version.join(".")} is older than ${OLDEST_GIT.join(".")}`)];
}

export async function preflightSource(context: GitContext, signal: AbortSignal): Promise<Finding[]> {
  const findings = await checkGit(context);
  const { root, ignore } = context.config;
  const global = await runGit(["config", "--system", "--get", "core.hooksPath"], {
    ...context.git,
    environment: { GIT_CONFIG_NOSYSTEM: "0" },
  });
  if (global.stdout.length > 0)
    findings.push(finding("REPOSITORY_HOOK_DISABLED", "core.hooksPath is set for the whole system"));
  let scan: Awaited<ReturnType<typeof scanRoot>>;
  let owners: ReadonlyMap<string, unknown>;
  try {
    scan = await scanRoot(root, ignoring(ignore), signal);
    owners = await context.ownerLookup.repositories();
  } catch (thrown) {
    signal.throwIfAborted();
    const error = toCleaveError(thrown, "FILE_PERMISSION");
    return [...findings, finding(error.code, error.message)];
  }
  for (const problem of scan.problems) findings.push(finding("REPOSITORY_UNREADABLE", problem));
  const limiter = new Limiter(CONCURRENCY);
  await Promise.all(
    scan.repositories.map((path) =>
      limiter.run(async () => {
        signal.throwIfAborted();
        if (!owners.has(path) && (await context.ownerLookup.repository(path)) === null)
          findings.push(finding("OWNER_UNKNOWN", `repository ${path} has no owner by the rules`));
        findings.push(...(await checkRepository(context, path)));
      }),
    ),
  );
  return findings;
}

async function checkRepository(context: GitContext, path: string): Promise<Finding[]> {
  const directory = context.inventory.gitDirectory(path);
  try {
    const sum = await repositoryChecksum(directory, context.git);
    if (sum.reason === "unreadable") return [finding("REPOSITORY_UNREADABLE", `${path}: ${sum.detail}`)];
    if (await fileExists(`${directory}/reftable`))
      return [finding("REPOSITORY_UNREADABLE", `${path}: the reftable format is not supported yet`)];
    const { config } = await readRepositoryFiles(directory);
    const text = Buffer.from(config, "base64").toString("latin1");
    if (!/hookspath|include/i.test(text)) return [];
    const hooks = await runGit([`--git-dir=${directory}`, "config", "--get", "core.hooksPath"], context.git);
    if (hooks.code !== 0) return [];
    return [finding("REPOSITORY_HOOK_DISABLED", `${path} has core.hooksPath: no hook of its own is run`)];
  } catch (thrown) {
    const error: CleaveError = toCleaveError(thrown, "REPOSITORY_UNREADABLE");
    return [finding(error.code, `${path}: ${error.message}`)];
  }
}

export async function preflightTarget(
  context: GitContext,
  duty: Duty,
  signal: AbortSignal,
): Promise<Finding[]> {
  const findings = await checkGit(context);
  const { root } = context.config;
  try {
    const entries = await readdir(root).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
      // It will be made: what counts is whether it can be.
      await access(dirname(root), constants.W_OK | constants.X_OK);
      return [];
    });
    if (entries.length > 0 && duty.kind === "split")
      findings.push(finding("GIT_NOT_EMPTY", `${root} is not empty: it has ${JSON.stringify(entries[0])}`));
    const place = (await fileExists(root)) ? root : dirname(root);
    await access(place, constants.W_OK | constants.X_OK);
    const { bavail, bsize } = await statfs(place);
    if (bavail * bsize < MIN_FREE_BYTES)
      findings.push(
        finding("DISK_FULL", `${place} has only ${Math.round((bavail * bsize) / 2 ** 20)} MiB free`),
      );
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    findings.push(finding("FILE_PERMISSION", `${root}: ${message}`));
  }
  try {
    await new SourceFeed(duty.sourcePodId, context.peers[duty.sourcePodId]).check(signal);
  } catch (thrown) {
    signal.throwIfAborted();
    const error = toCleaveError(thrown, "PEER_UNREACHABLE");
    findings.push(finding(error.code, error.message));
  }
  return findings;
}
