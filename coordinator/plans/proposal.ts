/** From measures to a plan, and what it would cost as a split and as moves. Pure. */
import { CleaveError } from "../../protocol/errors.ts";
import type { OrganizationId, PodId } from "../../protocol/ids.ts";
import type { Sizes } from "../../protocol/sizes.ts";
import { add, balanced, groupsOf, type Load, loadOf, NO_LOAD } from "./balance.ts";

export interface Wishes {
  /** Pods in the end, the source among them. */
  readonly into: number;
  readonly targets: readonly PodId[];
  /** Bytes per second from the source to one target; null: the measured sample, if there is one. */
  readonly bytesPerSecond: number | null;
  /** Read-only times of this cluster's former cutovers, in milliseconds. */
  readonly windowsMs: { readonly split: readonly number[]; readonly move: readonly number[] };
}

export interface PodShare {
  readonly podId: PodId;
  readonly organizations: readonly OrganizationId[];
  readonly load: Load;
  /** Of everything that was weighed. */
  readonly weight: number;
}

/** A number, or none, and where it comes from. */
export interface Figure {
  readonly value: number | null;
  readonly basis: string;
}

export interface Way {
  readonly kind: "split" | "move";
  readonly migrations: number;
  readonly copiedBytes: number;
  /** That the fullest target needs. */
  readonly targetBytes: number;
  /** Dormant afterwards, on all Pods together: what is removed in the end. */
  readonly removedBytes: number;
  readonly copyMs: Figure;
  readonly windowMs: Figure;
}

export interface Proposal {
  readonly source: PodShare;
  readonly targets: readonly PodShare[];
  readonly split: Way;
  readonly moves: Way;
  /** What an operator should know before they believe it. */
  readonly remarks: readonly string[];
}

/** @throws CleaveError PLAN_INVALID when there is nothing to divide. */
export function propose(sizes: Sizes, wishes: Wishes): Proposal {
  const { into, targets, windowsMs } = wishes;
  if (targets.length !== into - 1)
    throw new CleaveError(
      "PLAN_INVALID",
      `${into} Pods, the source among them, need ${into - 1} targets, and there are ${targets.length}`,
    );
  const groups = groupsOf(sizes);
  if (groups.length < into)
    throw new CleaveError(
      "PLAN_INVALID",
      `${sizes.organizations.length} organizations, in ${groups.length} groups that may be apart, cannot fill ${into} Pods`,
    );
  const shares = balanced(groups, into).map(({ groups: own, weight }) => ({
    organizations: own.flatMap(({ ids }) => ids).sort(),
    load: own.reduce((sum, { load }) => add(sum, load), NO_LOAD),
    weight,
  }));
  // What stays is not copied by moves: the share with the most bytes.
  const staying = shares.reduce((best, share) => (share.load.bytes > best.load.bytes ? share : best));
  const leaving = shares
    .filter((share) => share !== staying)
    .map((share, index) => ({ podId: targets[index] as PodId, ...share }));
  const speed = speedOf(sizes, wishes.bytesPerSecond);
  return {
    source: { podId: sizes.podId, ...staying },
    targets: leaving,
    split: splitWay(sizes, leaving, speed, windowsMs.split),
    moves: movesWay(leaving, speed, windowsMs.move),
    remarks: remarks(sizes, into),
  };
}

function speedOf({ copy }: Sizes, given: number | null): Figure {
  if (given !== null) return { value: given, basis: "at the speed that was given" };
  if (copy === null) return { value: null, basis: "no speed is known: give --bytes-per-second" };
  return {
    value: (copy.bytes * 1_000) / copy.ms,
    basis: `at the speed at which ${copy.table} was read beside the source: network and target may be slower`,
  };
}

function splitWay(
  { total }: Sizes,
  targets: readonly PodShare[],
  speed: Figure,
  windows: readonly number[],
): Way {
  // Every target is a replica of everything; of that it keeps its own share, and the source loses what left.
  const whole = total.databaseBytes + total.repositoryBytes + total.objectBytes;
  const copied = whole * targets.length;
  return {
    kind: "split",
    migrations: 1,
    copiedBytes: copied,
    targetBytes: whole,
    removedBytes: copied,
    copyMs: timeOf(copied, speed, "if targets are copied one after the other"),
    windowMs: windowFigure(windows),
  };
}

function movesWay(targets: readonly PodShare[], speed: Figure, windows: readonly number[]): Way {
  const bytes = targets.reduce((sum, { load }) => sum + load.bytes, 0);
  return {
    kind: "move",
    migrations: targets.length,
    copiedBytes: bytes,
    targetBytes: Math.max(...targets.map(({ load }) => load.bytes)),
    removedBytes: bytes,
    copyMs: timeOf(bytes, speed, "one move after the other"),
    windowMs: windowFigure(windows),
  };
}

function timeOf(bytes: number, speed: Figure, how: string): Figure {
  if (speed.value === null || speed.value <= 0) return { value: null, basis: speed.basis };
  return { value: (bytes * 1_000) / speed.value, basis: `${how}, ${speed.basis}` };
}

function windowFigure(windows: readonly number[]): Figure {
  if (windows.length === 0)
    return {
      value: null,
      basis: "none was cut over in this cluster yet: rehearse with a small organization",
    };
  const basis = windows.length === 1 ? "the one" : `the longest of ${windows.length}`;
  return { value: Math.max(...windows), basis: `${basis} in this cluster so far, by the log` };
}

function remarks({ references, organizations, notes, watchedMs }: Sizes, into: number): string[] {
  const said: string[] = [];
  const [most] = [...references].sort((a, b) => b.rows - a.rows);
  if (most !== undefined) {
    const rows = references.reduce((sum, one) => sum + one.rows, 0);
    said.push(
      `${rows} rows refer to a row of another organization, most of ${most.where} (${most.from} to ${most.to}): these organizations stay together`,
    );
  }
  const bytes = organizations.map((one) => ({ id: one.id, bytes: loadOf(one).bytes }));
  const total = bytes.reduce((sum, one) => sum + one.bytes, 0);
  const largest = bytes.reduce((best, one) => (one.bytes > best.bytes ? one : best), { id: "", bytes: 0 });
  if (largest.bytes > total / into)
    said.push(
      `${largest.id} alone has more than one Pod's part of the bytes, and an organization is never divided`,
    );
  if (organizations.every((one) => one.writesPerSecond === 0))
    said.push(
      `no write was seen in ${Math.round(watchedMs / 1_000)} s, so load is not balanced: measure at a busy hour`,
    );
  return [...said, ...notes];
}
