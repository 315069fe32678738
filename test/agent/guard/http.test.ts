/** A real guard over HTTP, asked as nginx, Traefik, Caddy and Envoy ask, on a state folded from real events. */
import { Agent, request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { build } from "hdr-histogram-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { decideAccess } from "../../../agent/domain/guard.ts";
import { GuardConfig } from "../../../agent/guard/config.ts";
import { type GuardServer, startGuardServer } from "../../../agent/guard/server.ts";
import type { GuardView } from "../../../agent/guard/view.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { type ClusterState, routeOf } from "../../../protocol/cluster.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import type { ClusterEvent } from "../../../protocol/events.ts";
import { eventually } from "../../support/eventually.ts";
import { assignmentsOf, fold, pod, say, until } from "../../support/story.ts";

/** What an agent's loop gives the guard, moved on by the test. */
class Story implements GuardView {
  readonly #self: string;
  readonly #listeners = new Set<() => void>();
  #state: ClusterState;
  opened = true;
  leaseValid = true;

  constructor(self: string, events: readonly ClusterEvent[]) {
    this.#self = self;
    this.#state = fold(events);
  }
  tell(...events: ClusterEvent[]): void {
    this.#state = fold(events, this.#state);
    this.changed();
  }
  changed(): void {
    for (const listener of this.#listeners) listener();
  }
  access: GuardView["access"] = (organizationId, write) => {
    const facts = { openedHere: () => this.opened, leaseValid: this.leaseValid, now: 1_000 };
    return decideAccess(
      this.#state,
      { self: pod(this.#self), ...facts },
      { organizationId, write },
      assignmentsOf,
    );
  };
  route: GuardView["route"] = (organizationId) => routeOf(this.#state, organizationId, assignmentsOf);
  onChange: GuardView["onChange"] = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}

interface Response {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

let guard: GuardServer;
let story: Story;
const agent = new Agent({ keepAlive: true, maxSockets: 64 });

async function serve(self: string, events: readonly ClusterEvent[], config: object = {}): Promise<void> {
  story = new Story(self, events);
  guard = await startGuardServer({
    podId: pod(self),
    view: story,
    config: GuardConfig.parse(config),
    clock: systemClock,
    logger: silentLogger,
    host: "127.0.0.1",
    port: 0,
  });
}

function ask(
  path: string,
  headers: Record<string, string> = {},
  method = "GET",
  signal?: AbortSignal,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const options = {
      host: "127.0.0.1",
      port: guard.port,
      path,
      headers,
      method,
      agent,
      ...(signal ? { signal } : {}),
    };
    const request = httpRequest(options, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
      );
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(method === "POST" ? "x=1" : undefined);
  });
}

const nginx = (method: string, uri: string) => ({ "x-original-method": method, "x-original-uri": uri });
const write = nginx("POST", "/organizations/1/issues");
const read = nginx("GET", "/organizations/1/issues");

beforeEach(() => {
  guard = undefined as unknown as GuardServer;
});
afterEach(async () => {
  await guard?.close();
});

describe("every proxy's way of asking", () => {
  const styles: [string, (method: string, uri: string) => Promise<Response>][] = [
    ["nginx auth_request", (method, uri) => ask("/guard/check", nginx(method, uri))],
    [
      "Traefik and Caddy forward_auth",
      (method, uri) => ask("/guard/check", { "x-forwarded-method": method, "x-forwarded-uri": uri }),
    ],
    ["the same by POST", (method, uri) => ask("/guard/check", nginx(method, uri), "POST")],
    ["Envoy ext_authz", (method, uri) => ask(`/guard/ext${uri}`, {}, method)],
  ];
  it.each(styles)("%s", async (_name, check) => {
    await serve("pod-0", until.fencing());
    expect((await ask("/guard/check", read)).status).toBe(200);
    expect((await check("POST", "/organizations/1/issues")).status).toBe(503);
    expect((await check("POST", "/organizations/1/a.git/git-upload-pack")).status).toBe(200);
    expect((await check("GET", "/organizations/1/a.git/info/refs?service=git-receive-pack")).status).toBe(
      503,
    );
    expect((await check("POST", "/organizations/3/issues")).status).toBe(200);
    expect((await check("POST", "/assets")).status).toBe(200);
    expect((await check("GET", "/organizations/1/../3/issues")).status).toBe(400);
    story.tell(say.drained(), say.matched(), say.transferred());
    expect((await check("GET", "/organizations/1/issues")).status).toBe(421);
  });

  it("the organization by name, where it is trusted", async () => {
    await serve("pod-0", until.fencing(), { trustOrganizationHeader: true });
    expect((await ask("/guard/check", { "x-cleave-organization": "1" })).status).toBe(503);
    expect(
      (await ask("/guard/check", { "x-cleave-organization": "1", "x-original-method": "GET" })).status,
    ).toBe(200);
    expect((await ask("/guard/check", { "x-cleave-organization": "3" })).status).toBe(200);
  });
});

describe("answers", () => {
  it("200 says which Pod and which version of the routes", async () => {
    await serve("pod-100", [...until.activating(), say.opened("pod-100")]);
    const answer = await ask("/guard/check", write);
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({ "cleave-pod": "pod-100", "cleave-route-version": "1" });
  });

  it("421 names the right Pod in a header and in the body", async () => {
    await serve("pod-0", until.activating());
    const answer = await ask("/guard/check", read);
    expect(answer.status).toBe(421);
    expect(answer.headers["cleave-pod"]).toBe("pod-100");
    const body = JSON.parse(answer.body);
    expect(body).toMatchObject({ code: "WRONG_POD", podId: "pod-100" });
    expect(body.nextStep).not.toBe("");
  });

  it("503 says when to come back, and why", async () => {
    await serve("pod-0", until.fencing());
    const answer = await ask("/guard/check", write);
    expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "1"]);
    expect(JSON.parse(answer.body).code).toBe("WRITE_FENCED");
    story.leaseValid = false;
    expect(JSON.parse((await ask("/guard/check", read)).body).code).toBe("READ_UNCONFIRMED");
  });

  it("503 for reads and writes while the target is opening, and before a Pod knows what it is", async () => {
    await serve("pod-100", until.activating());
    for (const headers of [read, write])
      expect(JSON.parse((await ask("/guard/check", headers)).body).code).toBe("POD_OPENING");
    await guard.close();
    await serve("pod-0", []);
    const answer = await ask("/guard/check", read);
    expect([answer.status, JSON.parse(answer.body).code]).toEqual([503, "POD_IDENTITY_UNKNOWN"]);
  });

  it("403 instead, with the same headers, for nginx", async () => {
    await serve("pod-0", until.activating());
    const moved = await ask("/guard/check?deny=403", read);
    expect([moved.status, moved.headers["cleave-pod"], moved.headers["cleave-code"]]).toEqual([
      403,
      "pod-100",
      "WRONG_POD",
    ]);
    expect((await ask("/guard/check?deny=403", nginx("GET", "/organizations/1/../2"))).status).toBe(403);
    expect((await ask("/guard/check?deny=403", nginx("GET", "/organizations/3"))).status).toBe(200);
    await guard.close();
    await serve("pod-0", until.fencing());
    const fenced = await ask("/guard/check?deny=403", write);
    expect([fenced.status, fenced.headers["retry-after"]]).toEqual([403, "1"]);
  });

  it("a route for routers to keep, and none while it is on the move", async () => {
    await serve("pod-0", until.ready(), { routeMaxAgeSeconds: 7 });
    const route = async (query: string) => {
      const { status, headers, body } = await ask(`/guard/route?${query}`);
      return [status, headers["cache-control"], JSON.parse(body).podId ?? JSON.parse(body).code];
    };
    expect(await route("organization=1")).toEqual([200, "max-age=7", "pod-0"]);
    story.tell(say.approved(), say.fenced());
    expect(await route("path=/organizations/1/x?y=z")).toEqual([200, "no-store", "pod-0"]);
    story.tell(say.drained(), say.matched(), say.transferred());
    expect(await route(`path=${encodeURIComponent("/organizations/1/x")}`)).toEqual([
      200,
      "max-age=7",
      "pod-100",
    ]);
    expect(JSON.parse((await ask("/guard/route?organization=2")).body)).toEqual({
      organizationId: "2",
      podId: "pod-101",
      version: 1,
    });
    expect(await route("path=/nothing")).toEqual([404, "no-store", "NOT_FOUND"]);
    for (const bad of ["", "organization=", "organization=1&path=/x", "path=/organizations/1/%2e%2e/2"])
      expect(await route(bad)).toEqual([400, "no-store", "REQUEST_INVALID"]);
    expect((await ask("/guard/else")).status).toBe(404);
  });
});

describe("hostile requests", () => {
  it.each([
    ["/organizations/1/../2/issues"],
    ["/organizations/1/%2e%2e/2"],
    ["/%6Frganizations/1"],
    ["/organizations/%00"],
    ["/organizations/%"],
    [`/organizations/${"x".repeat(201)}`],
    [`/organizations/1/${"x".repeat(9_000)}`],
  ])("%s is refused", async (uri) => {
    await serve("pod-0", until.fencing());
    const answer = await ask("/guard/check", nginx("POST", uri));
    expect([answer.status, JSON.parse(answer.body).code]).toEqual([400, "REQUEST_INVALID"]);
  });

  it("a client's header next to the proxy's own changes nothing for the better", async () => {
    await serve("pod-0", until.fencing());
    const forwarded = { "x-forwarded-method": "POST", "x-forwarded-uri": "/organizations/1/issues" };
    expect((await ask("/guard/check", { ...forwarded, ...nginx("GET", "/organizations/3") })).status).toBe(
      400,
    );
    expect((await ask("/guard/check", { ...forwarded, "x-cleave-organization": "3" })).status).toBe(503);
    expect((await ask("/guard/check")).status).toBe(400);
  });
});

describe("holding", () => {
  const held = { ...write, "cleave-hold-ms": "10000" };

  it("answers a fenced write with the right Pod as soon as authority is transferred", async () => {
    await serve("pod-0", until.fencing());
    const answers = Promise.all([ask("/guard/check", held), ask("/guard/check", held)]);
    await eventually(() => expect(guard.held()).toBe(2));
    const changedAt = performance.now();
    story.tell(say.drained(), say.matched(), say.transferred());
    for (const answer of await answers)
      expect([answer.status, answer.headers["cleave-pod"]]).toEqual([421, "pod-100"]);
    expect(performance.now() - changedAt).toBeLessThan(200);
    expect(guard.held()).toBe(0);
  });

  it("lets a fenced write go ahead when the fence is lowered", async () => {
    await serve("pod-0", until.fencing());
    const answer = ask("/guard/check", held);
    await eventually(() => expect(guard.held()).toBe(1));
    // A change that decides nothing for it leaves it waiting.
    story.changed();
    expect(guard.held()).toBe(1);
    const changedAt = performance.now();
    story.tell(say.lowered());
    expect((await answer).status).toBe(200);
    expect(performance.now() - changedAt).toBeLessThan(200);
  });

  it("lets a request to an opening target go ahead when its stores are open", async () => {
    await serve("pod-100", until.activating(), { holdMs: 10_000 });
    story.opened = false;
    const answers = Promise.all([ask("/guard/check", read), ask("/guard/check", write)]);
    await eventually(() => expect(guard.held()).toBe(2));
    story.tell(say.opened("pod-100"));
    expect(guard.held()).toBe(2);
    story.opened = true;
    const changedAt = performance.now();
    story.changed();
    expect((await answers).map((answer) => answer.status)).toEqual([200, 200]);
    expect(performance.now() - changedAt).toBeLessThan(200);
  });

  it("answers 503 when the time is over, and never waits longer than it may", async () => {
    await serve("pod-0", until.fencing(), { maxHoldMs: 100 });
    const startedAt = performance.now();
    expect((await ask("/guard/check", held)).status).toBe(503);
    const tookMs = performance.now() - startedAt;
    expect(tookMs).toBeGreaterThan(90);
    expect(tookMs).toBeLessThan(2_000);
  });

  it("does not hold what asks for no hold, nor more than it may", async () => {
    await serve("pod-0", until.fencing(), { maxHeld: 2 });
    expect((await ask("/guard/check", write)).status).toBe(503);
    const two = [ask("/guard/check", held), ask("/guard/check", held)];
    await eventually(() => expect(guard.held()).toBe(2));
    expect((await ask("/guard/check", held)).status).toBe(503);
    expect((await ask("/guard/check", { ...write, "cleave-hold-ms": "-1" })).status).toBe(503);
    story.tell(say.lowered());
    expect((await Promise.all(two)).map((answer) => answer.status)).toEqual([200, 200]);
  });

  it("forgets a client that went away", async () => {
    await serve("pod-0", until.fencing());
    const leaving = new AbortController();
    const answer = ask("/guard/check", held, "GET", leaving.signal).catch((error: Error) => error.name);
    await eventually(() => expect(guard.held()).toBe(1));
    leaving.abort();
    expect(await answer).toBe("AbortError");
    await eventually(() => expect(guard.held()).toBe(0));
    expect((await ask("/guard/check", read)).status).toBe(200);
  });

  it("lets everybody go when the guard ends", async () => {
    await serve("pod-0", until.fencing());
    const answer = ask("/guard/check", held);
    await eventually(() => expect(guard.held()).toBe(1));
    await guard.close();
    expect((await answer).status).toBe(503);
  });
});

it("an error of its own is never told as the client's", async () => {
  await serve("pod-0", until.fencing());
  story.access = story.route = () => {
    throw new CleaveError("BLOB_CORRUPT", "the assignments are not loaded");
  };
  expect((await ask("/guard/check", read)).status).toBe(500);
  expect((await ask("/guard/route?organization=1")).status).toBe(500);
});

it("answers within a millisecond", { timeout: 120_000 }, async () => {
  await serve("pod-0", until.fencing());
  const histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 10_000_000 });
  const questions = [read, write, nginx("POST", "/organizations/3/issues"), nginx("GET", "/assets/app.js")];
  const one = async (i: number) => {
    const startedAt = performance.now();
    await ask("/guard/check", questions[i % questions.length]);
    if (i >= 0) histogram.recordValue(Math.round((performance.now() - startedAt) * 1_000));
  };
  // Client and server share one process here, so a question at a time measures the guard and not the queue.
  for (let i = -2_000; i < 20_000; i++) await one(i);
  const at = (percentile: number) => (histogram.getValueAtPercentile(percentile) / 1_000).toFixed(3);
  console.log(`guard: 20000 requests, ms: p50 ${at(50)} p95 ${at(95)} p99 ${at(99)} max ${at(100)}`);
  expect(histogram.totalCount).toBe(20_000);
  // The goal is 1 ms on an idle machine; suites share theirs, so only what could never be noise fails here.
  expect(Number(at(50))).toBeLessThan(1);
  expect(Number(at(99))).toBeLessThan(10);
});
