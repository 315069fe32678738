/**
 * Organizations in order, a page at a time. A migration may have a million of them: they are sorted once, in slices
 * that leave room for decisions in between, and then a page costs what is on it.
 */
import { setImmediate as others } from "node:timers/promises";
import type { Assignments, AssignmentsOf } from "../../protocol/assignments.ts";
import {
  type ClusterState,
  type Migration,
  type Route,
  routeOf,
  sharePhase,
} from "../../protocol/cluster.ts";
import type { OrganizationId } from "../../protocol/ids.ts";
import type { MigratedOrganization } from "./ports.ts";

type Sorted = readonly OrganizationId[];

/** Some ten milliseconds of work. */
const SLICE = 20_000;

export class Organizations {
  readonly #sorted = new WeakMap<Assignments, Promise<Sorted>>();

  /** In the order of `<`, which compares UTF-16 code units. */
  sorted(assignments: Assignments): Promise<Sorted> {
    const known = this.#sorted.get(assignments) ?? sort(assignments);
    this.#sorted.set(assignments, known);
    return known;
  }

  /** Routes that a migration has changed; `after` is the last id of the page before. */
  async routes(
    state: ClusterState,
    assignmentsOf: AssignmentsOf,
    after: OrganizationId | null,
    limit: number,
  ): Promise<{ routes: Route[]; next: OrganizationId | null }> {
    const ids = new Set<OrganizationId>();
    for (const { digest } of state.routeLayers) {
      const sorted = await this.sorted(assignmentsOf(digest));
      const from = after === null ? 0 : firstIndex(sorted, (id) => id > after);
      for (const id of sorted.slice(from, from + limit + 1)) ids.add(id);
    }
    const { page, next } = cut([...ids].sort(), limit);
    return { routes: page.flatMap((id) => routeOf(state, id, assignmentsOf) ?? []), next };
  }

  /** Of one migration, those that begin with `prefix`; `found` is how many that are, on whatever page. */
  async ofMigration(
    state: ClusterState,
    migration: Migration,
    assignmentsOf: AssignmentsOf,
    { after, prefix, limit }: { after: OrganizationId | null; prefix: string; limit: number },
  ): Promise<{ organizations: MigratedOrganization[]; found: number; next: OrganizationId | null }> {
    const assignments = assignmentsOf(migration.assignments.digest);
    const sorted = await this.sorted(assignments);
    const begin = firstIndex(sorted, (id) => id >= prefix);
    const end = firstIndex(sorted, (id) => id >= prefix && !id.startsWith(prefix));
    const from =
      after === null
        ? begin
        : Math.max(
            begin,
            firstIndex(sorted, (id) => id > after),
          );
    const { page, next } = cut(sorted.slice(from, Math.min(end, from + limit + 1)), limit);
    const organizations = page.flatMap((organizationId) => {
      const podId = assignments.get(organizationId);
      const route = routeOf(state, organizationId, assignmentsOf);
      if (podId === undefined || route === null) return [];
      const phase = sharePhase(migration, podId);
      return [{ organizationId, podId, phase, servedBy: route.podId, routeVersion: route.version }];
    });
    return { organizations, found: end - begin, next };
  }
}

function cut(ids: readonly OrganizationId[], limit: number): { page: Sorted; next: OrganizationId | null } {
  const page = ids.slice(0, limit);
  return { page, next: ids.length > limit ? (page.at(-1) ?? null) : null };
}

/** The first index for which `holds` is true, where it is for all after it; the length if for none. */
export function firstIndex(sorted: Sorted, holds: (id: OrganizationId) => boolean): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(sorted[middle] as OrganizationId)) high = middle;
    else low = middle + 1;
  }
  return low;
}

async function sort(assignments: Assignments): Promise<Sorted> {
  let runs: OrganizationId[][] = [];
  let run: OrganizationId[] = [];
  for (const id of assignments.keys()) {
    run.push(id);
    if (run.length < SLICE) continue;
    runs.push(run.sort());
    run = [];
    await others();
  }
  runs.push(run.sort());
  while (runs.length > 1) {
    const merged: OrganizationId[][] = [];
    for (let index = 0; index < runs.length; index += 2)
      merged.push(await merge(runs[index] ?? [], runs[index + 1] ?? []));
    runs = merged;
  }
  return runs[0] ?? [];
}

async function merge(a: OrganizationId[], b: OrganizationId[]): Promise<OrganizationId[]> {
  const merged: OrganizationId[] = [];
  let [inA, inB] = [0, 0];
  while (inA < a.length || inB < b.length) {
    const [left, right] = [a[inA], b[inB]];
    if (left !== undefined && (right === undefined || left < right)) {
      merged.push(left);
      inA += 1;
    } else if (right !== undefined) {
      merged.push(right);
      inB += 1;
    }
    if (merged.length % SLICE === 0) await others();
  }
  return merged;
}
