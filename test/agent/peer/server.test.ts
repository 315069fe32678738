import { request } from "undici";
import { afterEach, beforeEach, expect, it } from "vitest";
import { longPoll } from "../../../agent/peer/long-poll.ts";
import { type PeerServer, startPeerServer } from "../../../agent/peer/server.ts";
import { orAborted } from "../../../agent/stores/common/or-aborted.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import type { PodId } from "../../../protocol/ids.ts";

const TOKEN = "a-token-of-the-cluster";
let server: PeerServer;
let port: number;
let reached = 0;
let asked = () => {};

beforeEach(async () => {
  reached = 0;
  server = await startPeerServer({
    podId: "pod-0" as PodId,
    token: TOKEN,
    host: "127.0.0.1",
    port: 0,
    logger: silentLogger,
    health: () => ({ sequence: 7 }),
    stores: [
      {
        registerPeerRoutes: (app) => {
          app.get("/objects/content/*", (request) => ({
            reached: ++reached,
            rest: (request.params as { "*": string })["*"],
          }));
          app.post("/objects/echo", (request) => ({ bytes: JSON.stringify(request.body).length }));
        },
      },
      {
        registerPeerRoutes: (app) => {
          app.addHook("onRequest", async (_request, reply) => void reply.header("x-store", "git"));
          app.get("/git/fails", () => {
            throw new Error("a bug");
          });
          app.get("/git/refuses", () => {
            throw new CleaveError("REPOSITORY_UNREADABLE", "x.git");
          });
          app.get("/git/waits", () => new Promise(() => undefined));
          const untilNews = longPoll(app, { clock: systemClock, onChange: () => () => undefined });
          app.get("/git/news", async (request) => {
            asked();
            await untilNews(request, () => false, 30_000);
            return { news: false };
          });
        },
      },
    ],
  });
  port = server.port;
});
afterEach(() => server.close());

async function ask(path: string, authorization: string | null = `Bearer ${TOKEN}`, body?: string) {
  const response = await request(`http://127.0.0.1:${port}${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: {
      ...(authorization === null ? {} : { authorization }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body }),
  });
  const json = (await response.body.json()) as Record<string, unknown>;
  return { status: response.statusCode, headers: response.headers, json };
}

it("says who it is to whoever has the token", async () => {
  expect(await ask("/peer/health")).toMatchObject({ status: 200, json: { podId: "pod-0", sequence: 7 } });
});

it.each([
  ["no token", null],
  ["an empty one", ""],
  ["an empty bearer", "Bearer "],
  ["another", "Bearer another"],
  ["a longer one", `Bearer ${TOKEN}x`],
  ["a shorter one", `Bearer ${TOKEN.slice(0, -1)}`],
  ["the token alone", TOKEN],
  ["another scheme", `Basic ${TOKEN}`],
])("refuses %s everywhere, before any route is reached", async (_what, authorization) => {
  for (const path of ["/peer/health", "/objects/content/a", "/nothing"]) {
    const answer = await ask(path, authorization);
    expect([answer.status, answer.json["code"]]).toEqual([401, "UNAUTHORIZED"]);
    expect(answer.json["nextStep"]).toMatch(/peerToken/);
  }
  expect(reached).toBe(0);
});

it("serves every store's routes, long keys too, and keeps their hooks apart", async () => {
  const key = `${"a".repeat(1_000)}/b`;
  const objects = await ask(`/objects/content/${key}`);
  expect(objects.json).toEqual({ reached: 1, rest: key });
  expect(objects.headers["x-store"]).toBeUndefined();
  expect((await ask("/git/refuses")).headers["x-store"]).toBe("git");
});

it("answers errors with a code and a next step", async () => {
  expect(await ask("/git/fails")).toMatchObject({ status: 500, json: { code: "INTERNAL" } });
  expect(await ask("/git/refuses")).toMatchObject({ status: 500, json: { code: "REPOSITORY_UNREADABLE" } });
  expect(await ask("/nothing")).toMatchObject({ status: 404, json: { code: "NOT_FOUND" } });
  expect(await ask("/objects/echo", undefined, "{")).toMatchObject({
    status: 400,
    json: { code: "REQUEST_INVALID" },
  });
});

it("refuses a body that is too large", async () => {
  const large = JSON.stringify("x".repeat(33 * 1024 * 1024));
  const answer = await ask("/objects/echo", undefined, large).catch((error: Error) => error);
  // The server may hang up before the client has sent it all.
  if (answer instanceof Error) expect(answer.message).toMatch(/socket|EPIPE|ECONNRESET|closed/i);
  else expect(answer).toMatchObject({ status: 413, json: { code: "MESSAGE_OVERSIZED" } });
  expect((await ask("/peer/health")).status).toBe(200);
});

it("ends although somebody waits for an answer", async () => {
  const waiting = ask("/git/waits").catch((error: Error) => error.message);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await server.close();
  expect(await waiting).toMatch(/closed|socket|reset/i);
});

it("closes without waiting for peers that wait for news: they are answered", async () => {
  const waiting = new Promise<void>((resolve) => {
    asked = resolve;
  });
  const answer = ask("/git/news");
  await waiting;
  const late = AbortSignal.timeout(10_000);
  await orAborted(server.close(), late);
  expect((await answer).json).toEqual({ news: false });
});
