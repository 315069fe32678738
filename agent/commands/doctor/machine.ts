/** Checks of a Pod's machine that no migration makes: secrets, disks, peers, the agent itself, versions. */
import { access, constants, readFile, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ErrorCode } from "../../../protocol/errors.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import type { StoreName } from "../../../protocol/ids.ts";
import { formatAmount } from "../../../protocol/wording.ts";
import type { AgentConfig } from "../../config.ts";
import { whatIsNotSeen, whatIsSeen } from "../../stores/file-fence/seen.ts";
import { findingsOf, unseenWriters } from "../../stores/file-fence/unseen-writers.ts";
import { gitVersion, isOlder, OLDEST_GIT } from "../../stores/git/backend/folder/git-version.ts";

const PEER_TIMEOUT_MS = 5_000;
/** HTTP tells whole seconds. */
const SKEW_WARNING_MS = 2_000;
/** PostgreSQL stops writing when its disk is full, and a slot fills it: a tenth is time to react. */
const SCARCE = 0.1;

export const found = (
  severity: Finding["severity"],
  code: ErrorCode,
  message: string,
  store: StoreName | null = null,
): Finding => ({ store, severity, code, message: message.slice(0, 2_000) });

/** @param file the agent's configuration, @param peerTokenFile as it stands there, made absolute */
export async function checkSecrets(
  file: string,
  peerTokenFile: string | null,
  config: AgentConfig,
): Promise<Finding[]> {
  const holdsSecrets = /^\s*(peerToken|token|password)\s*:/m.test(await readFile(file, "utf8"));
  const files = [
    ...(holdsSecrets ? [file] : []),
    peerTokenFile,
    config.nats.passwordFile,
    config.nats.tokenFile,
    config.postgres.passwordFile,
    ...Object.values(config.peers).map(({ postgres }) => postgres.passwordFile),
  ];
  const names = [...new Set(files.filter((one) => one !== undefined && one !== null))] as string[];
  const findings = await Promise.all(
    names.map(async (name) => {
      const seen = await stat(name).catch((error: Error) => error);
      if (seen instanceof Error) return [found("error", "FILE_PERMISSION", `${name}: ${seen.message}`)];
      const mode = (seen.mode & 0o777).toString(8);
      return (seen.mode & 0o077) === 0
        ? [found("info", "SECRET_READABLE", `${name} is its owner's alone`)]
        : [found("warning", "SECRET_READABLE", `${name} can be read by others than its owner: mode ${mode}`)];
    }),
  );
  return findings.flat();
}

export async function checkDisks(config: AgentConfig): Promise<Finding[]> {
  const places: [string, StoreName | null][] = [
    [config.stateDirectory, null],
    [config.postgres.dataDirectory, "postgres"],
    [config.git.root, "git"],
    [config.objects.root, "objects"],
  ];
  return Promise.all(
    places.map(async ([path, store]) => {
      try {
        const place = await existing(path);
        if (store !== "postgres") await access(place, constants.W_OK | constants.X_OK);
        const { bavail, blocks, bsize } = await statfs(place);
        const free = `${path} has ${formatAmount(bavail * bsize, "bytes")} of ${formatAmount(blocks * bsize, "bytes")} free`;
        return found(bavail < blocks * SCARCE ? "warning" : "info", "DISK_FULL", free, store);
      } catch (error) {
        return found("error", "FILE_PERMISSION", `${path}: ${(error as Error).message}`, store);
      }
    }),
  );
}

/** A folder that will be made counts as the one that it will be made in. */
async function existing(path: string): Promise<string> {
  for (let place = path; ; place = dirname(place)) {
    const there = await stat(place).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT" && place !== dirname(place)) return false;
        throw error;
      },
    );
    if (there) return place;
  }
}

/** This Pod's own agent, and those of the others, with the token of all of them. */
export async function checkAgents(config: AgentConfig): Promise<Finding[]> {
  const { host, peerPort } = config.listen;
  const own = `http://${host.includes(":") ? `[${host}]` : host}:${peerPort}`;
  const asked = await Promise.all([
    checkAgent(config.podId, own, config.peerToken, "AGENT_SILENT"),
    ...Object.entries(config.peers).map(([podId, { agentUrl }]) =>
      checkAgent(podId, agentUrl, config.peerToken, "PEER_UNREACHABLE"),
    ),
  ]);
  return asked.flat();
}

async function checkAgent(
  podId: string,
  url: string,
  token: string,
  unreachable: ErrorCode,
): Promise<Finding[]> {
  try {
    const askedAt = Date.now();
    const response = await fetch(`${url}/peer/health`, {
      headers: { authorization: `Bearer ${token}` },
      redirect: "manual",
      signal: AbortSignal.timeout(PEER_TIMEOUT_MS),
    });
    const answeredAt = Date.now();
    if (response.status === 401)
      return [found("error", "PEER_UNAUTHORIZED", `the agent of ${podId} at ${url} refused the token`)];
    const answer = (await response.json()) as { podId?: string };
    if (answer.podId !== podId)
      return [found("error", "CONFIG_INVALID", `${url} is the agent of ${answer.podId}, not of ${podId}`)];
    const clock = Date.parse(response.headers.get("date") ?? "");
    const skewMs = Math.abs(clock + 500 - (askedAt + answeredAt) / 2);
    return [
      found("info", unreachable, `the agent of ${podId} answers at ${url}`),
      ...(skewMs > SKEW_WARNING_MS
        ? [
            found(
              "warning",
              "CLOCK_SKEW",
              `the clock of ${podId} differs by about ${Math.round(skewMs / 1_000)} s`,
            ),
          ]
        : []),
    ];
  } catch (error) {
    const { cause, message } = error as Error;
    const why = cause instanceof Error && cause.message !== "" ? cause.message : message;
    return [found("error", unreachable, `the agent of ${podId} does not answer at ${url}: ${why}`)];
  }
}

export async function versions(config: AgentConfig): Promise<Finding[]> {
  const git = await gitVersion({ program: config.git.program }).catch(() => null);
  const told = `Node ${process.version}, git ${git === null ? "of an unknown version" : git.join(".")}`;
  return git === null || isOlder(git, OLDEST_GIT)
    ? [found("error", "CONFIG_INVALID", `${told}: git ${OLDEST_GIT.join(".")} or newer is needed`, "git")]
    : [found("info", "CONFIG_INVALID", told)];
}

/** What the agent sees of those who write repositories and objects: it has to wait for whom it does not see. */
export async function checkWriters({ stateDirectory, git, objects }: AgentConfig): Promise<Finding[]> {
  const control = join(stateDirectory, "control");
  const stores = [
    ["git", git.root],
    ["objects", objects.root],
  ] as const;
  const findings = await Promise.all(
    stores.map(async ([store, root]) => [
      { ...(await whatIsSeen({ control, root })), store },
      ...(await whatIsNotSeen(store, { control, root })),
      ...(await findingsOf(store, await unseenWriters(control, store, null), false)),
    ]),
  );
  return findings.flat();
}
