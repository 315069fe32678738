import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { afterEach, expect, test } from "vitest";
import { Router, type RouterOptions } from "../../../../examples/quickstart/router/router.ts";

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function serve(handler: Handler): Promise<string> {
  const server: Server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => {
      body += chunk.toString();
    });
    request.on("end", () => handler(request, response, body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
}

/** A Pod as the router meets it: a guard and an application, each answering as told, and what the application got. */
class Pod {
  readonly received: string[] = [];
  readonly asked: IncomingMessage["headers"][] = [];
  guardAnswers: Handler[] = [];
  appAnswers: Handler[] = [];
  address = { app: "", guard: "" };

  static async start(name: string, routed: () => string): Promise<Pod> {
    const pod = new Pod();
    const guard = await serve((request, response, body) => {
      if (request.url?.startsWith("/guard/route")) {
        response.setHeader("cache-control", "max-age=60");
        response.end(JSON.stringify({ podId: routed(), version: 1 }));
        return;
      }
      pod.asked.push(request.headers);
      (pod.guardAnswers.shift() ?? status(200))(request, response, body);
    });
    const app = await serve((request, response, body) => {
      pod.received.push(`${request.method} ${request.url} ${body}`);
      (pod.appAnswers.shift() ?? status(200, {}, name))(request, response, body);
    });
    pod.address = { app, guard };
    return pod;
  }
}

function status(code: number, headers: Record<string, string> = {}, body = ""): Handler {
  return (_request, response) => {
    response.writeHead(code, headers);
    response.end(body);
  };
}
const breakConnection: Handler = (request) => request.socket.destroy();

async function cluster(options: Partial<RouterOptions> = {}) {
  let routed = "pod-0";
  const old = await Pod.start("old", () => routed);
  const fresh = await Pod.start("new", () => routed);
  const router = new Router({ pods: { "pod-0": old.address, "pod-100": fresh.address }, ...options });
  const port = await router.listen(0);
  closers.push(() => router.close());
  const send = async (method: string, path: string, body?: string, headers: Record<string, string> = {}) =>
    await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
    });
  return {
    old,
    fresh,
    router,
    send,
    moveTo: (podId: string) => {
      routed = podId;
    },
  };
}

test("a request goes to the routed Pod with its body, after that Pod's guard was asked", async () => {
  const { old, fresh, send, moveTo } = await cluster();
  moveTo("pod-100");
  const response = await send("POST", "/organizations/1/issues?x=%20", "content", { "x-own": "kept" });
  expect([response.status, await response.text()]).toEqual([200, "new"]);
  expect(response.headers.get("cleave-served-by")).toBe("pod-100");
  expect(fresh.received).toEqual(["POST /organizations/1/issues?x=%20 content"]);
  expect(old.received).toEqual([]);
  expect(fresh.asked[0]).toMatchObject({
    "x-original-method": "POST",
    "x-original-uri": "/organizations/1/issues?x=%20",
  });
  expect(Number(fresh.asked[0]?.["cleave-hold-ms"])).toBeGreaterThan(0);
});

test("another Pod's name is learnt: the next request goes there at once", async () => {
  const { old, fresh, router, send } = await cluster();
  old.guardAnswers = [status(421, { "cleave-pod": "pod-100" })];
  expect(await (await send("GET", "/organizations/1/a")).text()).toBe("new");
  expect(await (await send("GET", "/organizations/1/b")).text()).toBe("new");
  expect(old.asked).toHaveLength(1);
  expect(fresh.asked).toHaveLength(2);
  expect(router.counters.stats().organizations["1"]).toMatchObject({ redirected: 1, refused: 0, failed: 0 });
});

test("a write that is refused for a moment is replayed where it belongs, and the client sees one answer", async () => {
  const { old, fresh, router, send } = await cluster();
  old.appAnswers = [status(503, { "retry-after": "1", "cleave-refused": "WRITE_FENCED" })];
  old.guardAnswers = [
    status(200),
    status(503, { "retry-after": "1" }),
    status(421, { "cleave-pod": "pod-100" }),
  ];
  const response = await send("POST", "/organizations/1/issues", "content");
  expect([response.status, await response.text()]).toEqual([200, "new"]);
  expect(fresh.received).toEqual(["POST /organizations/1/issues content"]);
  const stats = router.counters.stats();
  expect(stats).toMatchObject({ requests: 1, failed: 0, retried: 1 });
  expect(stats.organizations["1"]).toMatchObject({ refused: 2, redirected: 1 });
});

test("an application that answers with another Pod is believed", async () => {
  const { old, send } = await cluster();
  old.appAnswers = [status(421, { "cleave-pod": "pod-100" })];
  expect(await (await send("PUT", "/organizations/1/objects/a", "content")).text()).toBe("new");
});

test("an application's own 503 is the client's answer, and counts as failed", async () => {
  const { old, router, send } = await cluster();
  old.appAnswers = [status(503, {}, "too busy")];
  expect((await send("GET", "/organizations/1/a")).status).toBe(503);
  expect(router.counters.stats().failed).toBe(1);
});

test("after a broken connection only what may be sent twice is sent twice", async () => {
  const { old, router, send } = await cluster();
  old.appAnswers = [breakConnection];
  expect((await send("POST", "/organizations/1/issues", "once")).status).toBe(502);
  expect(old.received).toEqual(["POST /organizations/1/issues once"]);
  old.appAnswers = [breakConnection];
  const again = await send("POST", "/organizations/1/issues", "twice", { "idempotency-key": "k" });
  expect([again.status, old.received.length]).toEqual([200, 3]);
  old.appAnswers = [breakConnection];
  expect((await send("GET", "/organizations/1/issues")).status).toBe(200);
  expect(router.counters.stats()).toMatchObject({ failed: 1, retried: 2 });
});

test("two Pods that point at each other end in one error within the total time", async () => {
  const { old, fresh, send } = await cluster({ totalMs: 300 });
  const pointing = (podId: string) => Array.from({ length: 500 }, () => status(421, { "cleave-pod": podId }));
  old.guardAnswers = pointing("pod-100");
  fresh.guardAnswers = pointing("pod-0");
  const startedAt = performance.now();
  expect((await send("GET", "/organizations/1/a")).status).toBe(502);
  expect(performance.now() - startedAt).toBeLessThan(3_000);
});

test("a body above the limit is refused, not cut", async () => {
  const { old, send } = await cluster({ maxBodyBytes: 10 });
  expect((await send("PUT", "/organizations/1/objects/a", "0123456789")).status).toBe(200);
  const tooLarge = await send("PUT", "/organizations/1/objects/a", "0123456789+").catch(() => null);
  expect(tooLarge === null || tooLarge.status === 413).toBe(true);
  expect(old.received).toHaveLength(1);
});

test("a path without an organization is nobody's", async () => {
  const { old, send } = await cluster();
  expect((await send("GET", "/elsewhere")).status).toBe(404);
  expect(old.received).toEqual([]);
});
