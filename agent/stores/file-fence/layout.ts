/**
 * The file fence on disk: which file holds what, and how its lines are read. The Git hook (sh) reads the same files,
 * so a change here is a change there. Names come from hashes or validated ids; keys and paths are hostile.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { SharePhase } from "../../../protocol/cluster.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import { MigrationId, PodId } from "../../../protocol/ids.ts";

/** The stores that share the fence; each has its own `inflight` and `dirty` folders. */
export type FencedStore = "git" | "objects";

/** Owner of a repository that no organization owns alone, in place of a hash. */
export const SHARED = "shared";

export const fencePaths = (control: string) => ({
  self: join(control, "self"),
  defaultPod: join(control, "default"),
  routes: join(control, "routes"),
  shares: join(control, "shares"),
  owners: join(control, "owners", "git"),
  inflight: (store: FencedStore) => join(control, "inflight", store),
  dirty: (store: FencedStore) => join(control, "dirty", store),
  /** Files that are about to be renamed to their place; on the same file system as all of the above. */
  temporary: join(control, "tmp"),
});

/** SHA-256 of an organization's key in hexadecimal: how `routes/` and `owners/` name it. */
export function organizationHash(organizationId: string): string {
  return createHash("sha256").update(organizationId).digest("hex");
}

export function routeFile(control: string, hash: string): string {
  return join(control, "routes", hash.slice(0, 2), hash);
}

export function shareFile(control: string, migrationId: MigrationId): string {
  return join(control, "shares", MigrationId.parse(migrationId));
}

/**
 * @throws CleaveError OBJECT_KEY_INVALID for a path that is not a plain relative one: it would leave `owners/git`.
 */
export function ownerFile(control: string, repositoryPath: string): string {
  const segments = repositoryPath.split("/");
  const bad =
    Buffer.byteLength(repositoryPath) > 1_024 ||
    /[\u0000-\u001f\u007f]/.test(repositoryPath) ||
    !repositoryPath.isWellFormed() ||
    segments.some((s) => s === "" || s === "." || s === ".." || Buffer.byteLength(s) > 255);
  if (bad)
    throw new CleaveError("OBJECT_KEY_INVALID", `not a repository path: ${JSON.stringify(repositoryPath)}`);
  return join(control, "owners", "git", ...segments);
}

/** A line of `routes/`: the organization's base Pod, and the migration and target that it is assigned to. */
export interface RouteLine {
  readonly basePodId: PodId;
  readonly migrationId: MigrationId | null;
  readonly targetPodId: PodId | null;
}

export function formatRoute(route: RouteLine): string {
  return `${route.basePodId} ${route.migrationId ?? "-"} ${route.targetPodId ?? "-"}\n`;
}

/** Null when the line is damaged. */
export function parseRoute(text: string): RouteLine | null {
  const [base, migration, target, ...rest] = text.trimEnd().split(" ");
  const basePodId = PodId.safeParse(base);
  if (!basePodId.success || rest.length > 0) return null;
  if (migration === "-" && target === "-")
    return { basePodId: basePodId.data, migrationId: null, targetPodId: null };
  const migrationId = MigrationId.safeParse(migration);
  const targetPodId = PodId.safeParse(target);
  if (!migrationId.success || !targetPodId.success) return null;
  return { basePodId: basePodId.data, migrationId: migrationId.data, targetPodId: targetPodId.data };
}

export interface ShareLine {
  readonly targetPodId: PodId;
  readonly sourcePodId: PodId;
  readonly phase: SharePhase;
}

const PHASES: ReadonlySet<string> = new Set<SharePhase>(["source", "fenced", "transferred", "opened"]);

export function formatShares(sourcePodId: PodId, shares: Readonly<Record<PodId, SharePhase>>): string {
  return Object.entries(shares)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([target, phase]) => `${PodId.parse(target)} ${sourcePodId} ${phase}\n`)
    .join("");
}

function parseShare(line: string): ShareLine | null {
  const [target, source, phase, ...rest] = line.split(" ");
  const targetPodId = PodId.safeParse(target);
  const sourcePodId = PodId.safeParse(source);
  if (!targetPodId.success || !sourcePodId.success || phase === undefined || !PHASES.has(phase)) return null;
  if (rest.length > 0) return null;
  return { targetPodId: targetPodId.data, sourcePodId: sourcePodId.data, phase: phase as SharePhase };
}

/** The line of one target; null when it is missing or damaged, which refuses (unknown is no). */
export function findShare(text: string, target: PodId): ShareLine | null {
  const line = text.split("\n").find((one) => one.split(" ")[0] === target);
  return line === undefined ? null : parseShare(line);
}

/** All lines; null when one is damaged or there is none. */
export function parseShares(text: string): readonly ShareLine[] | null {
  const shares = text.split("\n").slice(0, -1).map(parseShare);
  const whole = shares.filter((share) => share !== null);
  return whole.length === shares.length && whole.length > 0 && text.endsWith("\n") ? whole : null;
}
