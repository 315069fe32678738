/**
 * Which organizations go together on which Pod: longest processing time first. Organizations whose rows refer to each
 * other stay together. Pure; the same measures give the same answer.
 */
import type { OrganizationId } from "../../protocol/ids.ts";
import type { OrganizationSize, Sizes } from "../../protocol/sizes.ts";

const DIMENSIONS = ["bytes", "rows", "repositories", "writesPerSecond"] as const;
export type Load = Readonly<Record<(typeof DIMENSIONS)[number], number>>;

export function loadOf(one: OrganizationSize): Load {
  return {
    bytes: one.rowBytes + one.repositoryBytes + one.objectBytes,
    rows: one.rows,
    repositories: one.repositories,
    writesPerSecond: one.writesPerSecond,
  };
}

export const NO_LOAD: Load = { bytes: 0, rows: 0, repositories: 0, writesPerSecond: 0 };

export function add(a: Load, b: Load): Load {
  return {
    bytes: a.bytes + b.bytes,
    rows: a.rows + b.rows,
    repositories: a.repositories + b.repositories,
    writesPerSecond: a.writesPerSecond + b.writesPerSecond,
  };
}

export interface Group {
  readonly ids: readonly OrganizationId[];
  readonly load: Load;
  /** The mean of its shares of each dimension that has anything: all groups together weigh 1. */
  readonly weight: number;
}

/** Organizations that refer to each other, also through third ones, as one group each. */
export function groupsOf(sizes: Pick<Sizes, "organizations" | "references">): Group[] {
  // In one order, so that sums, and with them ties, come out the same.
  const organizations = [...sizes.organizations].sort((a, b) => (a.id < b.id ? -1 : 1));
  const parents = new Map<string, string>(organizations.map(({ id }) => [id, id]));
  const root = (id: string): string => {
    let at = id;
    for (let up = parents.get(at); up !== undefined && up !== at; up = parents.get(at)) {
      // Halves the way for whoever comes next.
      parents.set(at, parents.get(up) ?? up);
      at = up;
    }
    return at;
  };
  for (const { from, to } of sizes.references)
    if (parents.has(from) && parents.has(to)) parents.set(root(from), root(to));
  const members = new Map<string, OrganizationSize[]>();
  for (const one of organizations) {
    const known = members.get(root(one.id));
    if (known) known.push(one);
    else members.set(root(one.id), [one]);
  }
  const total = organizations.reduce((sum, one) => add(sum, loadOf(one)), NO_LOAD);
  const counted = DIMENSIONS.filter((dimension) => total[dimension] > 0);
  return [...members.values()].map((ones) => {
    const load = ones.reduce((sum, one) => add(sum, loadOf(one)), NO_LOAD);
    const shares = counted.map((dimension) => load[dimension] / total[dimension]);
    const weight = shares.reduce((sum, share) => sum + share, 0) / Math.max(1, counted.length);
    return { ids: ones.map(({ id }) => id), load, weight };
  });
}

export interface Share {
  readonly groups: readonly Group[];
  readonly weight: number;
}

/**
 * Each group into one of `count` shares: the heaviest first, each to the share that is lightest by then. No share is
 * heavier than another by more than one group of it, and the heaviest is at most 4/3 of the best possible (Graham 1969).
 */
export function balanced(groups: readonly Group[], count: number): Share[] {
  const shares = Array.from({ length: count }, () => ({ groups: [] as Group[], weight: 0 }));
  const order = [...groups].sort(
    (a, b) => b.weight - a.weight || ((a.ids[0] as string) < (b.ids[0] as string) ? -1 : 1),
  );
  for (const group of order) {
    // Of equally light ones that with fewer groups: without any weight, numbers are what is left to balance.
    const lightest = shares.reduce((best, share) =>
      share.weight < best.weight || (share.weight === best.weight && share.groups.length < best.groups.length)
        ? share
        : best,
    );
    lightest.groups.push(group);
    lightest.weight += group.weight;
  }
  return shares;
}
