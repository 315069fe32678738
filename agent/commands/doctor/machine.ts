/** Checks of a Pod's machine that no migration makes: secrets, disks, peers, the agent itself, versions. */
import { readFile, stat } from "node:fs/promises";
import type { ErrorCode } from "../../../protocol/errors.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import type { StoreName } from "../../../protocol/ids.ts";
import { formatAmount } from "../../../protocol/wording.ts";
import type { AgentConfig } from "../../config.ts";
import type { Space } from "../../stores/common/root/identity.ts";
import { type Backends, controlOf } from "../../stores/create-backends.ts";
import { findingsOf, unseenWriters } from "../../stores/file-fence/unseen-writers.ts";
import { whatIsNotSeen, whatIsSeen } from "../../stores/file-fence/visibility.ts";
import { spaceIn } from "../../stores/machine/space.ts";

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

export async function checkDisks(config: AgentConfig, { git, objects }: Backends): Promise<Finding[]> {
  const { dataDirectory } = config.postgres;
  const places: [string, StoreName | null, () => Promise<Space | null>][] = [
    [config.stateDirectory, null, () => spaceIn(config.stateDirectory, { writable: true })],
    // Its server's user writes there, which may be another one.
    [dataDirectory, "postgres", () => spaceIn(dataDirectory, { writable: false })],
    [git.place, "git", () => git.space()],
    [objects.place, "objects", () => objects.space()],
  ];
  const asked = await Promise.all(
    places.map(async ([place, store, ask]) => {
      try {
        const space = await ask();
        return space === null ? [] : [spaceOf(place, space, store)];
      } catch (error) {
        return [found("error", "FILE_PERMISSION", (error as Error).message, store)];
      }
    }),
  );
  return asked.flat();
}

function spaceOf(place: string, { freeBytes, totalBytes }: Space, store: StoreName | null): Finding {
  const told = `${place} has ${formatAmount(freeBytes, "bytes")} of ${formatAmount(totalBytes, "bytes")} free`;
  return found(freeBytes < totalBytes * SCARCE ? "warning" : "info", "DISK_FULL", told, store);
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

export async function versions({ git }: Backends): Promise<Finding[]> {
  const told = await git.about().catch((error: Error) => error);
  if (told instanceof Error) return [found("error", "CONFIG_INVALID", `git: ${told.message}`, "git")];
  return [found("info", "CONFIG_INVALID", `Node ${process.version}, ${told}`), ...(await git.checkProgram())];
}

/** What the agent sees of those who write repositories and objects: it has to wait for whom it does not see. */
export async function checkWriters(config: AgentConfig, backends: Backends): Promise<Finding[]> {
  const control = controlOf(config.stateDirectory);
  const findings = await Promise.all(
    (["git", "objects"] as const).map(async (store) => [
      { ...(await whatIsSeen({ control, root: backends[store] })), store },
      ...(await whatIsNotSeen(store, { control, root: backends[store] })),
      ...(await findingsOf(store, await unseenWriters(control, store, null), false)),
    ]),
  );
  return findings.flat();
}
