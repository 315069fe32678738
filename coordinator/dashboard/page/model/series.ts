/** What was measured of each store while the page was open: kept in memory, bounded, never asked for again. Pure. */
import type { StoreName } from "../../../../protocol/ids.ts";
import type { ClusterStatus } from "../../../api/ports.ts";

export interface Point {
  readonly at: number;
  readonly value: number;
}

export interface Line {
  readonly podId: string;
  readonly store: StoreName;
  readonly unit: string;
  readonly points: readonly Point[];
}

export interface Series {
  /** How far each store of each target is behind. */
  readonly lag: readonly Line[];
  /** Units per second, of stores that copy. */
  readonly throughput: readonly Line[];
}

/** Fifteen minutes at one point a second. */
export const KEPT_POINTS = 900;
const POINT_EVERY_MS = 1_000;

interface Kept {
  readonly podId: string;
  readonly store: StoreName;
  unit: string;
  points: Point[];
}

/** Of one migration. */
export class Measured {
  readonly #lag = new Map<string, Kept>();
  readonly #done = new Map<string, Kept>();

  take(status: ClusterStatus["migrations"][number], at: number): void {
    for (const { podId, stores } of status.pods)
      for (const [name, view] of Object.entries(stores)) {
        if (!view) continue;
        const store = name as StoreName;
        if (view.lag !== null && view.lag.amount !== null)
          push(this.#lag, podId, store, view.lag.unit, { at, value: view.lag.amount });
        if (view.progress !== null && !view.reached)
          push(this.#done, podId, store, view.progress.unit, { at, value: view.progress.done });
      }
  }

  series(): Series {
    return {
      lag: [...this.#lag.values()].map((kept) => ({ ...kept, points: [...kept.points] })),
      throughput: [...this.#done.values()].flatMap((kept) => {
        const points = perSecond(kept.points);
        return points.length === 0 ? [] : [{ ...kept, points }];
      }),
    };
  }
}

/** The newest value replaces the one before it until a second is over. */
function push(lines: Map<string, Kept>, podId: string, store: StoreName, unit: string, point: Point): void {
  const key = `${podId} ${store}`;
  const kept = lines.get(key) ?? { podId, store, unit, points: [] };
  lines.set(key, kept);
  // In another state something else is counted.
  if (kept.unit !== unit) kept.points = [];
  kept.unit = unit;
  const { points } = kept;
  const [beforeLast, last] = points.slice(-2);
  if (beforeLast !== undefined && last !== undefined && last.at - beforeLast.at < POINT_EVERY_MS)
    points.pop();
  points.push(point);
  if (points.length > KEPT_POINTS) points.splice(0, points.length - KEPT_POINTS);
}

/** What grew, per second; a count that began anew says nothing for that moment. */
export function perSecond(points: readonly Point[]): Point[] {
  return points.slice(1).flatMap((point, index) => {
    const before = points[index] as Point;
    const grown = point.value - before.value;
    const seconds = (point.at - before.at) / 1_000;
    return grown < 0 || seconds <= 0 ? [] : [{ at: point.at, value: grown / seconds }];
  });
}
