/** A million organizations: sorted once, with room for decisions in between; a page costs what is on it. */
import { expect, it } from "vitest";
import { Organizations } from "../../../coordinator/api/organizations.ts";
import { emptyCluster, type RouteLayer } from "../../../protocol/cluster.ts";
import type { Digest, OrganizationId, PodId, RouteVersion } from "../../../protocol/ids.ts";
import { migrationId, pod } from "../../support/story.ts";

/** Counts how often it is gone through, and how often it is asked. */
class Counting extends Map<OrganizationId, PodId> {
  walks = 0;
  asked = 0;
  override keys() {
    this.walks += 1;
    return super.keys();
  }
  override get(id: OrganizationId) {
    this.asked += 1;
    return super.get(id);
  }
  override entries(): never {
    throw new Error("gone through");
  }
  override [Symbol.iterator](): never {
    throw new Error("gone through");
  }
  override forEach(): never {
    throw new Error("gone through");
  }
}

const COUNT = 1_000_000;
const layer: RouteLayer = {
  migrationId,
  version: 1 as RouteVersion,
  digest: "d" as Digest,
  revoked: {},
};
const state = { ...emptyCluster, defaultPodId: pod("pod-0"), routeLayers: [layer] };

it("pages and searches in a million go through nothing but themselves, and sorting lets others act", async () => {
  const assignments = new Counting();
  // In no order: each number once, since the factor has no divisor in common with a million.
  for (let index = 0; index < COUNT; index += 1)
    assignments.set(`org-${(index * 611_953) % COUNT}` as OrganizationId, pod(`pod-${100 + (index % 2)}`));
  const organizations = new Organizations();
  let others = 0;
  let sorting = true;
  const act = () => {
    others += 1;
    if (sorting) setImmediate(act);
  };
  setImmediate(act);
  const sorted = await organizations.sorted(assignments);
  sorting = false;
  expect(others, "turns that others had").toBeGreaterThan(200);
  expect(sorted).toHaveLength(COUNT);
  for (let index = 1; index < COUNT; index += 1)
    if (!((sorted[index - 1] as string) < (sorted[index] as string)))
      throw new Error(`out of order at ${index}`);

  expect(assignments.walks).toBe(1);
  assignments.asked = 0;
  let after: OrganizationId | null = null;
  const seen: string[] = [];
  for (let page = 0; page < 100; page += 1) {
    const { routes, next } = await organizations.routes(state, () => assignments, after, 100);
    seen.push(...routes.map(({ organizationId }) => organizationId));
    after = next;
  }
  expect(seen).toEqual(sorted.slice(0, 10_000));
  expect([assignments.walks, assignments.asked]).toEqual([1, 10_000]);

  const migration = { assignments: { digest: "d" }, context: { shares: {}, transfer: null, fenceUp: false } };
  const found = await organizations.ofMigration(state, migration as never, () => assignments, {
    after: "org-123450" as OrganizationId,
    prefix: "org-12345",
    limit: 3,
  });
  expect(found.organizations.map(({ organizationId }) => organizationId)).toEqual([
    "org-123451",
    "org-123452",
    "org-123453",
  ]);
  // org-12345 itself, and ten with one digit more.
  expect([found.found, found.next, assignments.walks]).toEqual([11, "org-123453", 1]);
});

it("routes of many transfers are one order: the newest word on each organization counts", async () => {
  const layers = Array.from({ length: 50 }, (_, index) => ({
    ...layer,
    version: (50 - index) as RouteVersion,
    digest: `${index}` as Digest,
  }));
  const assignments = new Map(
    layers.map(({ digest }, index) => [
      digest,
      new Map(["shared", `own-${index}`].map((id) => [id as OrganizationId, pod(`pod-${index}`)])),
    ]),
  );
  const lookUp = (digest: Digest) => assignments.get(digest) ?? new Map();
  const organizations = new Organizations();
  const all: string[] = [];
  for (let after: OrganizationId | null = null; ; ) {
    const page = await organizations.routes({ ...state, routeLayers: layers }, lookUp, after, 4);
    all.push(...page.routes.map(({ organizationId, podId }) => `${organizationId} ${podId}`));
    if (page.next === null) break;
    after = page.next;
  }
  const own = layers.map((_, index) => `own-${index} pod-${index}`).sort();
  expect(all).toEqual([...own, "shared pod-0"]);
});
