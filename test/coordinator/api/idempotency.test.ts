/** The same key with the same request: one decision, one answer, however often and however the answer was lost. */
import { createServer, request as forward } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import fastify from "fastify";
import { afterEach, beforeEach, expect, it } from "vitest";
import { answerOnce, KEPT_FOR_MS } from "../../../coordinator/api/idempotency.ts";
import { toProblem } from "../../../coordinator/api/problem.ts";
import type { AccessToken } from "../../../coordinator/api/roles.ts";
import { ApiClient } from "../../../coordinator/cli/client.ts";
import type { PlanInput } from "../../../protocol/plan.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { eventually } from "../../support/eventually.ts";

const tokens: AccessToken[] = ["alice", "bob"].map((name) => ({
  name,
  role: "admin",
  token: `token-of-${name}`,
}));
let api: ApiFixture;
beforeEach(async () => {
  api = await startApi({ tokens });
});
afterEach(() => api.stop());

const plan = (organization: string, migration = "split-1") => ({
  migration,
  source: "pod-0",
  assignments: [{ pod: "pod-100", organizations: [organization] }],
});

interface Answer {
  readonly status: number;
  readonly replayed: boolean;
  readonly body: unknown;
}

async function post(
  path: string,
  key: string,
  body?: unknown,
  signal?: AbortSignal,
  who = "alice",
): Promise<Answer> {
  const type = body === undefined ? {} : { "content-type": "application/json" };
  const response = await fetch(`${api.url}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer token-of-${who}`, "idempotency-key": key, ...type },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
  });
  const replayed = response.headers.get("idempotency-replayed") === "true";
  return { status: response.status, replayed, body: await response.json() };
}
const abort = { reason: "as asked" };

it("is decided once, and answered twice alike", async () => {
  const first = await post("/v1/plans", "k-1", plan("1"));
  expect(first).toMatchObject({ status: 201, replayed: false, body: { lifecycle: "planned" } });
  await post("/v1/migrations/split-1/abort", "k-2", abort);
  const before = api.log.records.length;
  expect(await post("/v1/plans", "k-1", plan("1"))).toEqual({ ...first, replayed: true });
  expect(await post("/v1/migrations/split-1/abort", "k-2", abort)).toMatchObject({
    status: 200,
    replayed: true,
  });
  expect(api.log.records.length).toBe(before);
});

it("a check that is sent again because its answer was lost does not check again", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  await post("/v1/plans", "p", plan("1"));
  const checks = () => api.log.types().filter((type) => type === "PreflightStarted").length;
  const check = "/v1/migrations/split-1/check";
  expect((await post(check, "c-1")).status).toBe(200);
  await eventually(() => expect(api.log.types().at(-1)).toMatch(/^Preflight(Passed|Refused)$/));
  expect(await post(check, "c-1")).toMatchObject({ status: 200, replayed: true });
  expect(checks()).toBe(1);
  expect(await post(check, "c-2")).toMatchObject({ status: 200, replayed: false });
  expect(checks()).toBe(2);
});

it("a refusal is an answer too: it stays one, although the command would be possible by now", async () => {
  const approve = "/v1/migrations/split-1/approve";
  const refused = await post(approve, "k");
  expect(refused).toMatchObject({ status: 404, body: { code: "MIGRATION_UNKNOWN" } });
  await post("/v1/plans", "p", plan("1"));
  expect(await post(approve, "k")).toEqual({ ...refused, replayed: true });
  expect(await post(approve, "k-2")).toMatchObject({ status: 409, body: { code: "COMMAND_NOT_POSSIBLE" } });
});

it.each([
  ["another body", "/v1/plans", plan("2")],
  ["another command", "/v1/migrations/split-1/check", undefined],
])("the key with %s is refused, and nothing is decided", async (_what, path, body) => {
  await post("/v1/plans", "k", plan("1"));
  const before = api.log.records.length;
  expect(await post(path, "k", body)).toMatchObject({
    status: 422,
    body: { code: "IDEMPOTENCY_KEY_REUSED" },
  });
  expect(api.log.records.length).toBe(before);
  // It is each caller's own.
  expect((await post("/v1/migrations/split-1/abort", "k", abort, undefined, "bob")).status).toBe(200);
});

it("whoever hangs up before the answer gets it later: one decision, made while nobody waited", async () => {
  const { createPlan } = api.coordinator;
  let asked = 0;
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  api.coordinator.createPlan = async (...args) => {
    asked += 1;
    await held;
    return createPlan.apply(api.coordinator, args);
  };
  const gone = new AbortController();
  const lost = post("/v1/plans", "k", plan("1"), gone.signal).catch((error: Error) => error.name);
  await eventually(() => expect(asked).toBe(1));
  gone.abort();
  expect(await lost).toBe("AbortError");
  const again = [post("/v1/plans", "k", plan("1")), post("/v1/plans", "k", plan("1"))];
  await delay(100);
  release();
  for (const answer of await Promise.all(again))
    expect(answer).toMatchObject({ status: 201, replayed: true });
  expect(asked).toBe(1);
});

it("the client asks again by itself when the connection broke, and once more only: one decision", async () => {
  let passed = 0;
  let cut = 1;
  const port = api.port;
  const proxy = createServer((request, response) => {
    const { method, url, headers } = request;
    const onward = forward({ port, host: "127.0.0.1", method, path: url, headers }, (answer) => {
      passed += 1;
      if (passed <= cut) request.socket.destroy();
      else answer.pipe(response.writeHead(answer.statusCode ?? 500, answer.headers));
      answer.resume();
    });
    request.pipe(onward);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const client = new ApiClient(`http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, "token-of-alice");
  expect(await client.plan(plan("1") as PlanInput)).toMatchObject({ lifecycle: "planned" });
  expect([passed, api.log.types()]).toEqual([2, ["ClusterConfigured", "MigrationPlanned"]]);
  [passed, cut] = [0, 9];
  await expect(client.command("split-1", "abort", abort)).rejects.toMatchObject({
    code: "COORDINATOR_UNREACHABLE",
  });
  expect([passed, api.log.types().at(-1)]).toEqual([2, "MigrationAborted"]);
  [passed, cut] = [0, 9];
  await expect(client.status(), "a look is not repeated").rejects.toThrow();
  expect(passed).toBe(1);
  proxy.close();
});

it("what failed for a reason that passes is no answer: the next one decides", async () => {
  const { createPlan } = api.coordinator;
  api.coordinator.createPlan = async () => {
    await delay(50);
    throw new Error("out of order");
  };
  const failing = [post("/v1/plans", "k", plan("1")), post("/v1/plans", "k", plan("1"))];
  expect((await Promise.all(failing)).map(({ status }) => status)).toEqual([500, 500]);
  api.coordinator.createPlan = createPlan;
  expect(await post("/v1/plans", "k", plan("1"))).toMatchObject({ status: 201, replayed: false });
});

it.each(["", "a b", "x".repeat(256), "ü"])("%j is no key", async (key) => {
  const answer = await post("/v1/plans", encodeURI(key) === "%C3%BC" ? "\u00fc" : key, plan("1")).catch(
    () => null,
  );
  expect(answer).toMatchObject({ status: 400, body: { code: "REQUEST_INVALID" } });
});

it("an answer is kept for a day, and only so many of them", async () => {
  const kept = 20;
  let now = 0;
  let decided = 0;
  const app = fastify({ logger: false });
  app.decorateRequest("caller");
  app.addHook("onRequest", async (request) => {
    request.caller = { by: "operator:alice", role: "admin" };
  });
  app.setValidatorCompiler(() => (value: unknown) => ({ value }));
  app.setErrorHandler((error, _request, reply) =>
    reply.status(toProblem(error).status).send(toProblem(error)),
  );
  answerOnce(app, { now: () => now, kept });
  app.post("/decide", () => ({ decided: ++decided }));
  const ask = async (key: string) =>
    (await app.inject({ method: "POST", url: "/decide", headers: { "idempotency-key": key } })).json()
      .decided;
  expect([await ask("k"), await ask("k")]).toEqual([1, 1]);
  now = KEPT_FOR_MS - 1;
  expect(await ask("k")).toBe(1);
  now = KEPT_FOR_MS;
  expect(await ask("k")).toBe(2);
  for (let index = 0; index < kept - 1; index += 1) await ask(`other-${index}`);
  expect(await ask("k"), "nineteen others").toBe(2);
  await ask("one-more");
  expect(await ask("k")).toBe(decided);
  expect(decided).toBe(kept + 3);
  await app.close();
});
