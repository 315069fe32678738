/** How fast stores have been getting on, by the reports of the last minute; and from that, how long it still takes. Pure. */
import type { Migration } from "../../protocol/cluster.ts";
import type { StoreStatus } from "../../protocol/evidence.ts";
import type { PodId, StoreName } from "../../protocol/ids.ts";
import type { Report } from "../../protocol/messages.ts";
import { formatAmount } from "../../protocol/wording.ts";
import { storeLabel } from "./wording.ts";

interface Sample {
  /** By the coordinator's clock. */
  readonly at: number;
  /** Of one goal, with one total: a base copy and what follows it have nothing in common. */
  readonly kind: string;
  readonly left: number;
}

/** Samples by migration, Pod and store; never logged, like reports. */
export type Paces = ReadonlyMap<string, readonly Sample[]>;

export interface Estimate {
  /** Null: there is no basis for one. */
  readonly leftMs: number | null;
  /** What it was computed from, or why it could not be. */
  readonly basis: string;
}

export const noPaces: Paces = new Map();

const WINDOW_MS = 60_000;
/** Reports come up to ten times a second; one sample of each second is enough. */
const EVERY_MS = 1_000;
/** A slope of less time than this says more about the moment than about the pace. */
const BASIS_MS = 3_000;

const keyOf = (migrationId: string, podId: PodId, store: StoreName) => `${migrationId}/${podId}/${store}`;

/** What is left of a store's present goal, or null when it says nothing of it. */
function leftOf(status: StoreStatus): { kind: string; left: number; unit: string } | null {
  const { goal, reached, progress, lag } = status;
  if (!reached && progress !== null)
    return {
      kind: `${goal} of ${progress.unit}`,
      left: Math.max(0, progress.total - progress.done),
      unit: progress.unit,
    };
  if (lag !== null && lag.amount !== null) return { kind: `${goal} lag`, left: lag.amount, unit: lag.unit };
  return null;
}

/** Takes a report in, at most one sample a second for each store. */
export function notePace(paces: Paces, report: Report, now: number): Paces {
  // What ended is forgotten with its last sample.
  const next = new Map([...paces].filter(([, samples]) => now - (samples.at(-1)?.at ?? 0) <= WINDOW_MS));
  for (const [migrationId, { stores }] of Object.entries(report.migrations)) {
    for (const [store, status] of Object.entries(stores) as [StoreName, StoreStatus][]) {
      const key = keyOf(migrationId, report.podId, store);
      const found = leftOf(status);
      const known = paces.get(key) ?? [];
      const last = known.at(-1);
      if (found === null) {
        next.delete(key);
        continue;
      }
      if (last?.kind === found.kind && now - last.at < EVERY_MS && now >= last.at) continue;
      const kept = known.filter(({ at, kind }) => kind === found.kind && at <= now && now - at <= WINDOW_MS);
      next.set(key, [...kept, { at: now, kind: found.kind, left: found.left }]);
    }
  }
  return next;
}

/** How fast what is left becomes less, per millisecond: the slope of the line through all samples (least squares). */
function pace(samples: readonly Sample[]): { perMs: number; overMs: number } | null {
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || !last || last.at - first.at < BASIS_MS) return null;
  const meanAt = samples.reduce((sum, { at }) => sum + at, 0) / samples.length;
  const meanLeft = samples.reduce((sum, { left }) => sum + left, 0) / samples.length;
  const products = samples.reduce((sum, { at, left }) => sum + (at - meanAt) * (left - meanLeft), 0);
  const squares = samples.reduce((sum, { at }) => sum + (at - meanAt) ** 2, 0);
  return { perMs: -products / squares, overMs: last.at - first.at };
}

/**
 * Until a store has nothing more to do than `bound`; null when that is so already or nothing is known to be left.
 * @param now by the coordinator's clock: time since the newest sample counts.
 */
function estimateStore(
  paces: Paces,
  migration: Migration,
  podId: PodId,
  store: StoreName,
  status: StoreStatus,
  bound: number,
  now: number,
): Estimate | null {
  const found = leftOf(status);
  if (found === null || found.left <= bound) return null;
  const where = `${podId} ${storeLabel(store)}`;
  const all = paces.get(keyOf(migration.migrationId, podId, store)) ?? [];
  const samples = all.filter(({ at, kind }) => kind === found.kind && now - at <= WINDOW_MS);
  const measured = pace(samples);
  if (measured === null) return { leftMs: null, basis: `too few reports of ${where} yet` };
  const over = `over the last ${Math.round(measured.overMs / 1_000)} s`;
  if (measured.perMs <= 0) return { leftMs: null, basis: `${where} made no headway ${over}` };
  const perSecond = measured.perMs * 1_000;
  const speed = found.unit === "bytes" ? Math.round(perSecond) : Number(perSecond.toPrecision(2));
  const rest = formatAmount(found.left - bound, found.unit);
  return {
    leftMs: Math.round((found.left - bound) / measured.perMs),
    basis: `${where}: ${rest} left at ${formatAmount(speed, found.unit)}/s ${over}`,
  };
}

/**
 * Until the present step is done, by its slowest store; null where nothing is under way that takes long (a person is
 * waited for, or it is a matter of moments).
 */
export function estimateOf(
  migration: Migration,
  podIds: readonly PodId[],
  statusOf: (podId: PodId) => Readonly<Partial<Record<StoreName, StoreStatus>>> | undefined,
  paces: Paces,
  now: number,
): Estimate | null {
  const { lifecycle, settings, context } = migration;
  if (context.paused !== null || !["seeding", "following", "ready", "cleaning"].includes(lifecycle))
    return null;
  const { lagBounds } = settings;
  const bounds: Record<StoreName, number> =
    lifecycle === "following" || lifecycle === "ready"
      ? { postgres: lagBounds.postgresBytes, git: lagBounds.gitRepositories, objects: lagBounds.objects }
      : { postgres: 0, git: 0, objects: 0 };
  const copying = lifecycle === "seeding" || lifecycle === "cleaning";
  const found: Estimate[] = [];
  for (const podId of podIds) {
    for (const [store, status] of Object.entries(statusOf(podId) ?? {}) as [StoreName, StoreStatus][]) {
      // A copy's end is the end of the step: what is behind after it is the next step's.
      if (copying && status.reached) continue;
      if (copying && status.progress === null) {
        const basis = `${podId} ${storeLabel(store)} does not say yet how much there is to do`;
        found.push({ leftMs: null, basis });
        continue;
      }
      const one = estimateStore(paces, migration, podId, store, status, bounds[store], now);
      if (one !== null) found.push(one);
    }
  }
  const unknown = found.find(({ leftMs }) => leftMs === null);
  if (unknown) return unknown;
  return found.reduce<Estimate | null>(
    (worst, one) => (worst === null || (one.leftMs ?? 0) > (worst.leftMs ?? 0) ? one : worst),
    null,
  );
}
