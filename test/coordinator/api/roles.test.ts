/** Every route × every role: what is allowed, what is refused, and whose name is in the log. */
import fastify, { type FastifyPluginAsync } from "fastify";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guardRoutes } from "../../../coordinator/api/access.ts";
import { type AccessToken, ROLES, type Role } from "../../../coordinator/api/roles.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import type { Logger } from "../../../protocol/ports/logger.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";

/** Said a second time on purpose: a new route, or one that asks for less than before, fails here. */
const NEEDED: Record<string, Role | null> = {
  "GET /health": null,
  "GET /ready": null,
  "GET /v1/events": "viewer",
  "GET /v1/migrations": "viewer",
  "GET /v1/migrations/{id}": "viewer",
  "GET /v1/migrations/{id}/evidence": "viewer",
  "GET /v1/migrations/{id}/history": "viewer",
  "GET /v1/migrations/{id}/organizations": "viewer",
  "GET /v1/pods": "viewer",
  "GET /v1/pods/{id}": "viewer",
  "GET /v1/routes": "viewer",
  "GET /v1/routes/{organization}": "viewer",
  "GET /v1/status": "viewer",
  "GET /v1/status/stream": "viewer",
  "POST /v1/migrations/{id}/abort": "operator",
  "POST /v1/migrations/{id}/approve": "operator",
  "POST /v1/migrations/{id}/check": "operator",
  "POST /v1/migrations/{id}/finalize": "admin",
  "POST /v1/migrations/{id}/give-up": "admin",
  "POST /v1/migrations/{id}/pause": "operator",
  "POST /v1/migrations/{id}/resume": "operator",
  "POST /v1/migrations/{id}/revoke": "admin",
  "POST /v1/migrations/{id}/rollback": "operator",
  "POST /v1/migrations/{id}/start": "operator",
  "POST /v1/plans": "operator",
};
const BODIES: Record<string, object> = {
  abort: { reason: "r" },
  pause: { reason: "r" },
  finalize: {},
  "give-up": { reason: "r", pod: "pod-100" },
  rollback: {},
  revoke: { reason: "r", pod: "pod-100" },
  plans: { migration: "none", source: "pod-9", assignments: [{ pod: "pod-100", organizations: ["1"] }] },
};

const tokens: AccessToken[] = ROLES.map((role) => ({ name: `${role}-1`, role, token: `token-of-a-${role}` }));
const lines: { readonly level: string; readonly fields: object; readonly message: string }[] = [];
const note = (level: string) => (fields: object, message: string) =>
  void lines.push({ level, fields, message });
const logger: Logger = {
  debug: note("debug"),
  info: note("info"),
  warn: note("warn"),
  error: note("error"),
  child: () => logger,
};

let api: ApiFixture;
beforeAll(async () => {
  api = await startApi({ tokens, logger });
});
afterAll(() => api.stop());

interface Answer {
  readonly status: number;
  readonly code: string | undefined;
}

async function ask(route: string, headers: Record<string, string>, body?: object): Promise<Answer> {
  const [method = "", path = ""] = route
    .replace("{organization}", "1")
    .replace(/\{\w+\}/, "none")
    .split(" ");
  const name = path.split("/").at(-1) ?? "";
  const content = body ?? BODIES[name];
  const abort = new AbortController();
  const response = await fetch(`${api.url}${path}`, {
    method,
    headers: { ...headers, ...(content === undefined ? {} : { "content-type": "application/json" }) },
    ...(content === undefined ? {} : { body: JSON.stringify(content) }),
    signal: abort.signal,
  });
  const isStream = response.headers.get("content-type") === "text/event-stream";
  const answer = isStream ? {} : ((await response.json()) as { code?: string });
  abort.abort();
  return { status: response.status, code: answer.code };
}
const as = (role: Role) => ({ authorization: `Bearer token-of-a-${role}` });

it("the table names every route", async () => {
  const { paths } = (await (await fetch(`${api.url}/docs/json`)).json()) as {
    paths: Record<string, Record<string, { description?: string }>>;
  };
  const described = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(described.sort()).toEqual(Object.keys(NEEDED).sort());
});

describe.each(Object.entries(NEEDED))("%s", (route, needed) => {
  it.each(ROLES)(`as %s, where ${needed} is needed`, async (role) => {
    const before = api.log.records.length;
    const { status, code } = await ask(route, as(role));
    if (needed !== null && ROLES.indexOf(role) < ROLES.indexOf(needed)) {
      expect([status, code]).toEqual([403, "FORBIDDEN"]);
      expect(api.log.records.length).toBe(before);
    } else {
      expect([401, 403]).not.toContain(status);
    }
  });

  it("without a token", async () => {
    const { status } = await ask(route, {});
    if (needed === null) expect(status).toBe(200);
    else expect(status).toBe(401);
  });
});

it("a look at what would be removed takes nothing away, so operators may have it", async () => {
  const route = "POST /v1/migrations/{id}/finalize";
  expect(await ask(route, as("operator"), { dryRun: true })).toEqual({
    status: 404,
    code: "MIGRATION_UNKNOWN",
  });
  expect((await ask(route, as("operator"), { dryRun: false })).status).toBe(403);
});

it("a takeover without evidence cannot be taken back, so operators may not have it", async () => {
  const route = "POST /v1/migrations/{id}/rollback";
  expect((await ask(route, as("operator"), { acceptLoss: "its machine burnt" })).status).toBe(403);
  expect((await ask(route, as("admin"), { acceptLoss: "its machine burnt" })).status).toBe(404);
});

it("the log names the token's holder, whoever the client says it is; refused commands are told with who and why", async () => {
  const claim = { "x-cleave-operator": "mallory" };
  const good = {
    migration: "split-1",
    source: "pod-0",
    assignments: [{ pod: "pod-100", organizations: ["1"] }],
  };
  expect((await ask("POST /v1/plans", { ...as("operator"), ...claim }, good)).status).toBe(201);
  expect(api.coordinator.state().migrations["split-1" as never]).toMatchObject({
    plannedBy: "operator:operator-1",
  });
  lines.length = 0;
  await ask("POST /v1/migrations/{id}/approve", { ...as("viewer"), ...claim });
  await ask("POST /v1/migrations/{id}/approve", { authorization: "Bearer token-of-a-thief" });
  await ask("POST /v1/migrations/{id}/start", as("operator"));
  const told = lines.filter(({ level }) => level === "warn");
  expect(told).toEqual([
    {
      level: "warn",
      fields: {
        by: "operator:viewer-1",
        command: "/v1/migrations/none/approve",
        status: 403,
        code: "FORBIDDEN",
      },
      message: "operator:viewer-1 is viewer, and this needs operator",
    },
    expect.objectContaining({ fields: expect.objectContaining({ by: null, code: "UNAUTHORIZED" }) }),
    expect.objectContaining({
      fields: expect.objectContaining({ by: "operator:operator-1", code: "MIGRATION_UNKNOWN" }),
    }),
  ]);
  expect(JSON.stringify(lines)).not.toContain("token-of-a");
});

it("a route that says no role is not accepted", async () => {
  const forgetful: FastifyPluginAsync = async (routes) => {
    guardRoutes(routes, tokens, silentLogger);
    routes.get("/forgotten", () => "open to everybody");
  };
  const register = async () => await fastify().register(forgetful);
  await expect(register()).rejects.toThrow("/forgotten says no role");
});
