/** Plans and commands over HTTP, on a real coordinator: what is in the log afterwards, and what is refused how. */
import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { MigrationStatus } from "../../../coordinator/api/ports.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { eventually } from "../../support/eventually.ts";

let api: ApiFixture;
beforeEach(async () => {
  api = await startApi();
});
afterEach(() => api.stop());

const PLAN = {
  migration: "split-1",
  source: "pod-0",
  assignments: [
    { pod: "pod-100", organizations: ["1", "a/b ü"] },
    { pod: "pod-101", organizations: [2] },
  ],
  settings: { settlingMs: 50, cutover: { readLeaseMs: 200 } },
};

interface Answer {
  readonly status: number;
  readonly type: string | null;
  readonly body: { code?: string; lifecycle?: string; detail?: string; [field: string]: unknown };
}

async function post(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(`${api.url}${path}`, {
    method: "POST",
    headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const type = response.headers.get("content-type");
  return { status: response.status, type, body: (await response.json()) as Answer["body"] };
}

async function get<T>(path: string): Promise<T> {
  const response = await fetch(`${api.url}${path}`);
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}
const migration = () => get<MigrationStatus>("/v1/migrations/split-1");

it("a split over HTTP alone: plan, start, approve, and the routes are new", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const operator = { "x-cleave-operator": "alice@example.org" };
  expect(await post("/v1/plans", PLAN, operator)).toMatchObject({
    status: 201,
    body: { migrationId: "split-1", lifecycle: "planned" },
  });
  expect(await get("/v1/routes/1")).toMatchObject({ podId: "pod-0", version: 0 });
  expect((await post("/v1/migrations/split-1/start", undefined, operator)).status).toBe(200);
  await eventually(async () =>
    expect((await migration()).waitingFor).toEqual(["an operator: approve the cutover"]),
  );
  expect((await post("/v1/migrations/split-1/approve", undefined, operator)).status).toBe(200);
  await eventually(async () => expect((await migration()).lifecycle).toBe("retaining"));

  expect(await get(`/v1/routes/${encodeURIComponent("a/b ü")}`)).toMatchObject({ podId: "pod-100" });
  const first = await get<{ routes: { organizationId: string }[]; next: string }>("/v1/routes?limit=2");
  const second = await get<{ routes: { organizationId: string }[]; next: null }>(
    `/v1/routes?limit=2&after=${encodeURIComponent(first.next)}`,
  );
  expect([...first.routes, ...second.routes].map((route) => route.organizationId)).toEqual([
    "1",
    "2",
    "a/b ü",
  ]);
  expect(second.next).toBeNull();
  const { records } = await get<{ records: { by: string; events: { type: string }[] }[] }>("/v1/events");
  const by = (type: string) =>
    records.find((record) => record.events.some((event) => event.type === type))?.by;
  expect(by("MigrationPlanned")).toBe("operator:alice@example.org");
  expect(by("FenceRaised")).toBe("coordinator:test");
  expect(await post("/v1/migrations/split-1/abort", { reason: "too late" })).toMatchObject({
    status: 409,
    body: { code: "ABORT_AFTER_TRANSFER" },
  });
});

it("YAML is a plan as well, and the same plan twice is one plan", async () => {
  const yaml = "migration: split-1\nsource: pod-0\nassignments: [{pod: pod-100, organizations: [0017]}]\n";
  for (const type of ["application/yaml", "text/yaml; charset=utf-8"])
    expect((await post("/v1/plans", yaml, { "content-type": type })).status).toBe(201);
  expect(api.log.types()).toEqual(["ClusterConfigured", "MigrationPlanned"]);
  expect((await migration()).organizations).toBe(1);
});

it("a dry run checks and changes nothing, and shows what it found", async () => {
  api.store("pod-100", "git").findings = [
    { store: "git", severity: "error", code: "GIT_NOT_EMPTY", message: "3 repositories" },
  ];
  await api.startAgents("pod-0", "pod-100", "pod-101");
  expect((await post("/v1/plans?dryRun=true", PLAN)).body.lifecycle).toBe("preflight");
  await eventually(async () => expect((await migration()).lifecycle).toBe("planned"));
  expect((await migration()).findings).toMatchObject([{ code: "GIT_NOT_EMPTY", severity: "error" }]);
  expect(api.store("pod-0", "postgres").goals).toEqual([]);
});

it.each([
  ["POST /v1/plans", { ...PLAN, source: "pod-9" }, 422, "PLAN_UNKNOWN_POD"],
  ["POST /v1/plans", { ...PLAN, source: undefined }, 400, "PLAN_INVALID"],
  ["POST /v1/plans", "{ not json", 400, "PLAN_INVALID"],
  [
    "POST /v1/plans",
    { ...PLAN, assignments: [...PLAN.assignments, { pod: "pod-101", organizations: ["1"] }] },
    400,
    "PLAN_ORGANIZATION_TWICE",
  ],
  [
    "POST /v1/plans",
    { ...PLAN, assignments: [{ pod: "pod-100", file: "/etc/passwd" }] },
    400,
    "PLAN_INVALID",
  ],
  ["POST /v1/plans?dryRun=perhaps", PLAN, 400, "REQUEST_INVALID"],
  ["POST /v1/migrations/none/start", undefined, 404, "MIGRATION_UNKNOWN"],
  ["POST /v1/migrations/__proto__/start", undefined, 400, "REQUEST_INVALID"],
  ["POST /v1/migrations/constructor/start", undefined, 404, "MIGRATION_UNKNOWN"],
  ["POST /v1/migrations/split-0/approve", undefined, 409, "COMMAND_NOT_POSSIBLE"],
  ["POST /v1/migrations/split-0/abort", { reason: "" }, 400, "REQUEST_INVALID"],
  ["POST /v1/migrations/split-0/abort", "{", 400, "REQUEST_INVALID"],
  ["POST /v1/migrations/split-0/revoke", { reason: "r", pod: "../pod" }, 400, "REQUEST_INVALID"],
  ["POST /v1/migrations/split-0/explode", undefined, 404, "NOT_FOUND"],
  ["GET /v1/migrations/none", undefined, 404, "MIGRATION_UNKNOWN"],
  ["GET /v1/events?after=-1", undefined, 400, "REQUEST_INVALID"],
  ["GET /v1/routes?limit=1000000", undefined, 400, "REQUEST_INVALID"],
  ["GET /v1/routes/%00", undefined, 400, "REQUEST_INVALID"],
  ["GET /v1/migrations/none/evidence", undefined, 404, "MIGRATION_UNKNOWN"],
  ["GET /v1/migrations/none/history", undefined, 404, "MIGRATION_UNKNOWN"],
  ["GET /v1/migrations/none/organizations", undefined, 404, "MIGRATION_UNKNOWN"],
  ["GET /v1/migrations/toString/organizations", undefined, 400, "REQUEST_INVALID"],
  ["GET /v1/migrations/split-0/organizations?limit=0", undefined, 400, "REQUEST_INVALID"],
  [`GET /v1/migrations/split-0/organizations?search=${"x".repeat(201)}`, undefined, 400, "REQUEST_INVALID"],
  ["GET /v1/migrations?after=none", undefined, 404, "MIGRATION_UNKNOWN"],
  ["GET /v1/migrations?live=perhaps", undefined, 400, "REQUEST_INVALID"],
  ["GET /v1/pods/pod-9", undefined, 404, "NOT_FOUND"],
  ["GET /v1/pods/%2e%2e%2fpod-0", undefined, 400, "REQUEST_INVALID"],
  ["POST /v1/migrations/split-0/give-up", { reason: "r", pod: 7 }, 400, "REQUEST_INVALID"],
  ["POST /v1/migrations/split-0/rollback", { organizations: [] }, 400, "REQUEST_INVALID"],
  ["POST /v1/migrations/split-0/rollback", {}, 409, "COMMAND_NOT_POSSIBLE"],
  ["POST /v1/migrations/split-0/pause", { reason: "r".repeat(2_001) }, 400, "REQUEST_INVALID"],
  ["POST /v1/migrations/split-0/pause", { reason: ["r"] }, 400, "REQUEST_INVALID"],
  ["POST /v1/migrations/split-0/finalize", { dryRun: "no" }, 400, "REQUEST_INVALID"],
  ["GET /v1/nothing", undefined, 404, "NOT_FOUND"],
])("%s with %j answers %i %s, as problem details, and logs nothing", async (request, body, status, code) => {
  const other = { ...PLAN, migration: "split-0", assignments: [{ pod: "pod-100", organizations: ["9"] }] };
  expect((await post("/v1/plans", other)).status).toBe(201);
  const before = api.log.records.length;
  const [method = "", path = ""] = request.split(" ");
  const answer =
    method === "POST"
      ? await post(path, body)
      : await fetch(`${api.url}${path}`).then(async (response) => ({
          status: response.status,
          type: response.headers.get("content-type"),
          body: (await response.json()) as Answer["body"],
        }));
  expect(answer).toMatchObject({ status, body: { status, code, type: `urn:cleave:error:${code}` } });
  expect(answer.type).toMatch(/^application\/problem\+json/);
  if (code !== "NOT_FOUND") expect(await documented(method, path, status)).toContain(`\`${code}\``);
  expect(Object.keys(answer.body).sort()).toEqual(["code", "detail", "nextStep", "status", "title", "type"]);
  expect(api.log.records.length).toBe(before);
});

/** What the description says of a status of a route. */
async function documented(method: string, path: string, status: number): Promise<string> {
  const { paths } = await get<{
    paths: Record<string, Record<string, { responses: Record<string, object> }>>;
  }>("/docs/json");
  const pattern = path
    .replace(/\?.*/, "")
    .replace(/^(\/v1\/migrations|\/v1\/pods)\/[^/]+/, "$1/{id}")
    .replace(/^(\/v1\/routes)\/.+/, "$1/{organization}");
  return JSON.stringify(paths[pattern]?.[method.toLowerCase()]?.responses[status]);
}

it("a Pod that is busy and an organization that is claimed are refused", async () => {
  await post("/v1/plans", PLAN);
  expect(await post("/v1/plans", { ...PLAN, migration: "split-2" })).toMatchObject({ status: 409 });
  const otherwise = { ...PLAN, assignments: [{ pod: "pod-100", organizations: ["1"] }] };
  expect((await post("/v1/plans", otherwise)).body.code).toBe("MIGRATION_EXISTS");
});

it("an organization's id may be as long and as strange as the protocol allows", async () => {
  for (const id of ["x".repeat(200), "ö".repeat(100), "../../v1/status", "?a=b#c", "100%", "%2f"])
    expect(await get(`/v1/routes/${encodeURIComponent(id)}`)).toMatchObject({
      organizationId: id,
      podId: "pod-0",
    });
});

it("the operator's name in the log is plain text, whatever was sent", async () => {
  await post("/v1/plans", PLAN, { "x-cleave-operator": "eve\u00a0<b>;coordinator:c1\u00ff" });
  const { records } = await get<{ records: { by: string }[] }>("/v1/events?after=1");
  expect(records[0]?.by).toBe("operator:evebcoordinatorc1");
});

it("bodies: 64 MiB for plans, little for everything else; other types are refused", async () => {
  const reason = { reason: "x".repeat(2 * 1024 * 1024) };
  expect(await post("/v1/migrations/split-1/abort", reason)).toMatchObject({ status: 413 });
  const text = `${JSON.stringify(PLAN)}${" ".repeat(2 * 1024 * 1024)}`;
  expect((await post("/v1/plans", text)).status).toBe(201);
  expect(await post("/v1/plans", "x".repeat(64 * 1024 * 1024 + 1))).toMatchObject({ status: 413 });
  expect(await post("/v1/plans", "<plan/>", { "content-type": "application/xml" })).toMatchObject({
    status: 415,
    body: { code: "REQUEST_INVALID" },
  });
});

/** Sends the headers and all of a plan but its last character. */
async function slowUpload(text: string): Promise<{ finish(): void; answer: Promise<string> }> {
  const socket = connect(api.port, "127.0.0.1");
  let answered = "";
  const answer = new Promise<string>((resolve, reject) => {
    socket.on("data", (bytes) => {
      answered += bytes;
    });
    socket.on("close", () => resolve(answered));
    socket.on("error", reject);
  });
  await once(socket, "connect");
  socket.write(
    `POST /v1/plans HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n\r\n${text.slice(0, -1)}`,
  );
  return { finish: () => void socket.write(text.slice(-1)), answer };
}

it("a large plan waits while organizations are read-only, a small one does not", async () => {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  api.store("pod-100", "git").before = (duty) => (duty.goal === "match" ? held : undefined);
  await api.startAgents("pod-0", "pod-100", "pod-101");
  await post("/v1/plans", PLAN);
  await post("/v1/migrations/split-1/start");
  await eventually(async () => expect((await migration()).possibleCommands).toContain("approve"));
  const late = await slowUpload(JSON.stringify({ ...PLAN, migration: "split-3" }).padEnd(1024 * 1024 + 1));
  await post("/v1/migrations/split-1/approve");
  await eventually(async () => expect((await migration()).fence).not.toBeNull());
  late.finish();
  const other = JSON.stringify({ ...PLAN, migration: "split-2" });
  const large = await post("/v1/plans", `${other}${" ".repeat(1024 * 1024)}`);
  expect(large).toMatchObject({ status: 409, body: { code: "POD_BUSY" } });
  expect(large.body.detail).toContain("split-1 is being cut over");
  expect((await post("/v1/plans", other)).body.detail).not.toContain("cut over");
  expect((await late.answer).slice(0, 12), "begun before, but not read during").toBe("HTTP/1.1 409");
  release();
  await eventually(async () => expect((await migration()).lifecycle).toBe("retaining"));
});

it("without a token, a page in a browser cannot send commands", async () => {
  const answer = await post("/v1/plans", PLAN, { origin: "http://evil.example" });
  expect(answer).toMatchObject({ status: 400, body: { code: "REQUEST_INVALID" } });
  // Under a name of the attacker's that was made to point here, origin and host agree.
  const rebound = await new Promise<string>((resolve, reject) => {
    let text = "";
    const socket = connect(api.port, "127.0.0.1", () =>
      socket.write(
        "POST /v1/migrations/none/start HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\nconnection: close\r\n\r\n",
      ),
    );
    socket.on("data", (bytes) => {
      text += bytes;
    });
    socket.on("close", () => resolve(text));
    socket.on("error", reject);
  });
  expect(rebound).toContain("commands from a browser's page need a token");
  expect(api.log.types()).toEqual(["ClusterConfigured"]);
});

it("without a token, the page that was loaded from here can", async () => {
  expect((await post("/v1/plans", PLAN, { origin: api.url })).status).toBe(201);
  const otherPort = await post("/v1/migrations/split-1/start", undefined, { origin: "http://127.0.0.1:1" });
  expect(otherPort.status).toBe(400);
});

it("before the log is read only health answers, and says why", async () => {
  api.ready = false;
  api.log.down = true;
  expect((await fetch(`${api.url}/ready`)).status).toBe(503);
  expect(await get("/health")).toMatchObject({
    ok: true,
    ready: false,
    connected: false,
    problem: { code: "NATS_UNREACHABLE", nextStep: expect.any(String) },
  });
  const answer = await fetch(`${api.url}/v1/status`);
  expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
});

it("the description says what a plan is, and how it may be refused", async () => {
  const { openapi, paths } = await get<{
    openapi: string;
    paths: Record<string, Record<string, { requestBody?: { content: object }; responses: object }>>;
  }>("/docs/json");
  expect(openapi).toBe("3.1.0");
  const plans = paths["/v1/plans"]?.["post"];
  expect(Object.keys(plans?.requestBody?.content ?? {})).toEqual(["application/json", "application/yaml"]);
  expect(JSON.stringify(plans)).toContain("drainGraceMs");
  expect(Object.keys(plans?.responses ?? {})).toEqual(
    expect.arrayContaining(["201", "400", "401", "403", "409", "422", "500", "503", "default"]),
  );
});
