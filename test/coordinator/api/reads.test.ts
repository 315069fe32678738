/** Every read over HTTP, on a real coordinator with agents: exact answers, in pages, for whatever names. */
import { afterAll, beforeAll, expect, it } from "vitest";
import type { MigratedOrganization } from "../../../coordinator/api/ports.ts";
import { OnePodAnswer, PodsAnswer, StatusAnswer } from "../../../coordinator/api/schemas.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { eventually } from "../../support/eventually.ts";

let api: ApiFixture;

const NAMES = [
  "a/b ü",
  "acme",
  "acme-2",
  "acme/labs",
  "ACME",
  "💥",
  "../../v1/status",
  "?a=b#c",
  "100%",
  "%2f",
  "é",
];
const OTHERS = Array.from({ length: 300 }, (_, index) => `org-${String(index).padStart(3, "0")}`);

beforeAll(async () => {
  api = await startApi();
  await api.startAgents("pod-0", "pod-100", "pod-101");
  await post("/v1/plans", {
    migration: "split-1",
    source: "pod-0",
    assignments: [
      { pod: "pod-100", organizations: [...OTHERS].reverse() },
      { pod: "pod-101", organizations: NAMES },
    ],
    settings: { settlingMs: 50, cutover: { approval: "auto", readLeaseMs: 200 } },
  });
});
afterAll(() => api.stop());

async function post(path: string, body?: object): Promise<void> {
  const response = await fetch(`${api.url}${path}`, {
    method: "POST",
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  if (!response.ok) throw new Error(await response.text());
}
async function get<T>(path: string): Promise<T> {
  const response = await fetch(`${api.url}${path}`);
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}

interface Organizations {
  readonly organizations: MigratedOrganization[];
  readonly total: number;
  readonly found: number;
  readonly next: string | null;
}
async function pages(query: Record<string, string> = {}): Promise<Organizations[]> {
  const all: Organizations[] = [];
  for (let after: string | null = null; ; ) {
    const parameters = new URLSearchParams({ ...query, ...(after === null ? {} : { after }) });
    const page: Organizations = await get(`/v1/migrations/split-1/organizations?${parameters}`);
    all.push(page);
    after = page.next;
    if (after === null) return all;
  }
}
const names = (all: readonly Organizations[]) =>
  all.flatMap(({ organizations }) => organizations.map(({ organizationId }) => organizationId as string));

it("organizations come in order, each once, whatever the page and the name", async () => {
  const wanted = [...NAMES, ...OTHERS].sort();
  for (const limit of [1, 7, 310, 311, 312]) {
    const all = await pages({ limit: String(limit) });
    expect(names(all), `${limit} a page`).toEqual(wanted);
    expect(all).toHaveLength(Math.ceil(wanted.length / limit));
    expect(all.every(({ total, found }) => total === 311 && found === 311)).toBe(true);
  }
});

it.each([...NAMES, "acm", "org-1", "org-29", "o", "none", "\uffff", "💥"])(
  "a search for %j finds what begins so, and counts it",
  async (search) => {
    const wanted = [...NAMES, ...OTHERS].filter((name) => name.startsWith(search)).sort();
    const all = await pages({ search, limit: "3" });
    expect(names(all)).toEqual(wanted);
    expect(all.every(({ total, found }) => total === 311 && found === wanted.length)).toBe(true);
  },
);

it("before anything has begun, the source serves; there is no evidence, and one entry of history", async () => {
  const [page] = await pages({ search: "acme", limit: "1" });
  expect(page?.organizations).toEqual([
    { organizationId: "acme", podId: "pod-101", phase: "source", servedBy: "pod-0", routeVersion: 0 },
  ]);
  expect(await get("/v1/migrations/split-1/evidence")).toMatchObject({ epoch: null, consensus: null });
  expect(await get("/v1/migrations/split-1/history")).toMatchObject({
    entries: [{ type: "MigrationPlanned", by: "operator:unnamed", from: null, to: "planned" }],
  });
});

it("after the cutover everything says so: organizations, routes, evidence, history, Pods", async () => {
  await post("/v1/migrations/split-1/start");
  await eventually(async () =>
    expect(await get("/v1/migrations/split-1")).toMatchObject({ lifecycle: "retaining" }),
  );
  const [page] = await pages({ search: "acme", limit: "1" });
  const moved = { organizationId: "acme", podId: "pod-101", phase: "opened", servedBy: "pod-101" };
  expect(page?.organizations).toMatchObject([moved]);
  expect(await get(`/v1/routes/${encodeURIComponent("../../v1/status")}`)).toMatchObject({
    podId: "pod-101",
  });
  const routes = await get<{ routes: unknown[]; next: null }>("/v1/routes?limit=311");
  expect([routes.routes.length, routes.next]).toEqual([311, null]);

  const { consensus, reported } = await get<{
    consensus: Record<string, Record<string, { digest: string }>>;
    reported: { podId: string; role: string; stores: Record<string, { evidence: unknown }> }[];
  }>("/v1/migrations/split-1/evidence");
  expect(Object.keys(consensus).sort()).toEqual(["pod-0", "pod-100", "pod-101"]);
  expect(consensus["pod-100"]?.["git"]?.digest).toBe(consensus["pod-0"]?.["git"]?.digest);
  expect(reported.map(({ podId, role }) => `${podId} ${role}`)).toEqual([
    "pod-0 source",
    "pod-100 target",
    "pod-101 target",
  ]);
  expect(Object.keys(reported[0]?.stores ?? {})).toEqual(["postgres", "git", "objects"]);

  const { entries } = await get<{ entries: { type: string; to: string }[] }>(
    "/v1/migrations/split-1/history",
  );
  expect(entries.map(({ type }) => type)).toEqual(
    expect.arrayContaining(["FenceRaised", "ConsensusReached", "Opened"]),
  );
  expect(entries.at(-1)?.to).toBe("retaining");

  const { pods } = PodsAnswer.parse(await get("/v1/pods"));
  expect(pods.map(({ podId, isDefault }) => [podId, isDefault])).toEqual([
    ["pod-0", true],
    ["pod-100", false],
    ["pod-101", false],
  ]);
  expect(pods[1]).toMatchObject({
    software: "test",
    incarnation: expect.any(Number),
    stores: ["postgres", "git", "objects"],
    migrations: [{ migrationId: "split-1", lifecycle: "retaining", role: "target", share: "opened" }],
  });
  expect(pods[1]?.lastReportAgeMs).toBeLessThan(60_000);
  // Its migration retains by the log; that the agent is there too comes with its next report.
  await eventually(async () => {
    const one = OnePodAnswer.parse(await get("/v1/pods/pod-100"));
    expect(one.migrations[0]?.stores.git).toMatchObject({ reached: true, problems: [] });
  });
  StatusAnswer.parse(await get("/v1/status"));
});

it("the history of one migration says nothing of others, and follows all of its states", async () => {
  await post("/v1/plans", {
    migration: "split-2",
    source: "pod-0",
    kind: "move",
    assignments: [{ pod: "pod-100", organizations: ["one that stayed"] }],
  });
  await post("/v1/migrations/split-2/abort", { reason: "only a test" });
  const { entries } = await get<{ entries: { from: string; to: string; why: string[] }[] }>(
    "/v1/migrations/split-2/history",
  );
  expect(entries.map(({ from, to, why }) => [from, to, why])).toEqual([
    [null, "planned", []],
    ["planned", "aborted", ["only a test"]],
  ]);
});

it("migrations are listed the newest first, in pages, and by whether they are over", async () => {
  interface List {
    readonly migrations: { migrationId: string; targetPodIds: string[]; plannedBy: string }[];
    readonly next: string | null;
  }
  const list = (query: string) => get<List>(`/v1/migrations${query}`);
  const ids = ({ migrations }: List) => migrations.map(({ migrationId }) => migrationId);
  expect(ids(await list(""))).toEqual(["split-2", "split-1"]);
  expect(ids(await list("?live=true"))).toEqual(["split-1"]);
  expect(ids(await list("?live=false"))).toEqual(["split-2"]);
  const first = await list("?limit=1");
  expect([ids(first), first.next]).toEqual([["split-2"], "split-2"]);
  const second = await list(`?limit=1&after=${first.next}`);
  expect([ids(second), second.next]).toEqual([["split-1"], null]);
  expect(second.migrations[0]).toMatchObject({
    targetPodIds: ["pod-100", "pod-101"],
    plannedBy: "operator:unnamed",
  });
});

it("a log whose beginning is not at hand is said to be incomplete: by history, by pages and by streams", async () => {
  const { events } = api.coordinator;
  api.coordinator.events = (after, limit) => events.call(api.coordinator, Math.max(after, 5), limit);
  const refused = await fetch(`${api.url}/v1/migrations/split-1/history`);
  expect([refused.status, await refused.json()]).toEqual([
    409,
    expect.objectContaining({ code: "HISTORY_INCOMPLETE" }),
  ]);
  expect(await get("/v1/events?limit=1")).toMatchObject({ complete: false, records: [{ sequence: 6 }] });
  expect(await get("/v1/events?after=5&limit=1")).toMatchObject({ complete: true });
  const abort = new AbortController();
  const stream = await fetch(`${api.url}/v1/events?after=2`, {
    headers: { accept: "text/event-stream" },
    signal: abort.signal,
  });
  const { value } = (await stream.body?.pipeThrough(new TextDecoderStream()).getReader().read()) ?? {};
  abort.abort();
  expect(value).toMatch(/^event: gap\ndata: \{"after":2,"next":6\}\n\nid: 6\n/);
});
