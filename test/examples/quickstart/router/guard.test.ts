/** The router in front of the agents' real guards, through a whole cutover as guards see it. */
import { createServer, type Server } from "node:http";
import { afterEach, expect, test } from "vitest";
import type { Access } from "../../../../agent/domain/guard.ts";
import { GuardConfig } from "../../../../agent/guard/config.ts";
import { type GuardServer, startGuardServer } from "../../../../agent/guard/server.ts";
import { Router } from "../../../../examples/quickstart/router/router.ts";
import { createLogger } from "../../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../../protocol/adapters/system-clock.ts";
import type { OrganizationId, PodId, RouteVersion } from "../../../../protocol/ids.ts";

type Phase = "source" | "fenced" | "transferred" | "opened";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** What all guards know; each may learn of a change at another time. */
class Knowledge {
  #phase: Phase = "source";
  readonly #listeners = new Set<() => void>();
  readonly #self: string;

  constructor(self: string) {
    this.#self = self;
  }

  learn(phase: Phase): void {
    this.#phase = phase;
    for (const listener of this.#listeners) listener();
  }

  access(_: OrganizationId | null, write: boolean): Access {
    const owner = this.#phase === "source" || this.#phase === "fenced" ? "pod-0" : "pod-100";
    if (this.#self !== owner) return { outcome: "wrongPod", podId: owner as PodId };
    if (this.#phase === "fenced" && write) return { outcome: "fenced", retryAfterMs: 1_000 };
    return this.#phase === "transferred" ? { outcome: "opening" } : { outcome: "allow" };
  }

  route(organizationId: OrganizationId) {
    const podId = (this.#phase === "source" || this.#phase === "fenced" ? "pod-0" : "pod-100") as PodId;
    return { organizationId, podId, version: 1 as RouteVersion };
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

async function pod(podId: string) {
  const knowledge = new Knowledge(podId);
  const guard: GuardServer = await startGuardServer({
    podId: podId as PodId,
    view: knowledge,
    config: GuardConfig.parse({}),
    clock: systemClock,
    logger: createLogger({}, "silent"),
    host: "127.0.0.1",
    port: 0,
  });
  closers.push(() => guard.close());
  const served: string[] = [];
  const app: Server = createServer((request, response) => {
    served.push(`${request.method} ${request.url}`);
    request.resume();
    request.on("end", () => response.end(podId));
  });
  await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve));
  closers.push(async () => {
    app.closeAllConnections();
    await new Promise((resolve) => app.close(resolve));
  });
  const appPort = (app.address() as { port: number }).port;
  return {
    knowledge,
    guard,
    served,
    address: { app: `http://127.0.0.1:${appPort}`, guard: `http://127.0.0.1:${guard.port}` },
  };
}

async function cluster() {
  const [old, fresh] = [await pod("pod-0"), await pod("pod-100")];
  const router = new Router({ pods: { "pod-0": old.address, "pod-100": fresh.address } });
  const port = await router.listen(0);
  closers.push(() => router.close());
  const send = async (method: string) => {
    const response = await fetch(`http://127.0.0.1:${port}/organizations/1/issues`, {
      method,
      ...(method === "POST" ? { body: "content" } : {}),
    });
    return `${response.status} ${await response.text()}`;
  };
  return { old, fresh, router, send };
}

async function held(guard: GuardServer): Promise<void> {
  while (guard.held() === 0) await new Promise((resolve) => setTimeout(resolve, 5));
}

test("a write waits through fence and opening, and is carried out once, on the new Pod", async () => {
  const { old, fresh, router, send } = await cluster();
  expect(await send("POST")).toBe("200 pod-0");
  old.knowledge.learn("fenced");
  fresh.knowledge.learn("fenced");
  const write = send("POST");
  await held(old.guard);
  expect(await send("GET")).toBe("200 pod-0");
  old.knowledge.learn("transferred");
  fresh.knowledge.learn("transferred");
  await held(fresh.guard);
  await new Promise((resolve) => setTimeout(resolve, 30));
  fresh.knowledge.learn("opened");
  expect(await write).toBe("200 pod-100");
  expect(old.served).toEqual(["POST /organizations/1/issues", "GET /organizations/1/issues"]);
  expect(fresh.served).toEqual(["POST /organizations/1/issues"]);
  const { failed, held: waits } = router.counters.stats();
  expect(failed).toBe(0);
  expect(waits.count).toBeGreaterThanOrEqual(1);
});

test("while one guard has not heard of the transfer yet, requests wait instead of failing", async () => {
  const { old, fresh, send } = await cluster();
  old.knowledge.learn("transferred");
  const write = send("POST");
  await new Promise((resolve) => setTimeout(resolve, 100));
  fresh.knowledge.learn("opened");
  expect(await write).toBe("200 pod-100");
});

test("a lowered fence lets the held write go on where it was", async () => {
  const { old, fresh, send } = await cluster();
  old.knowledge.learn("fenced");
  const write = send("POST");
  await held(old.guard);
  old.knowledge.learn("source");
  expect(await write).toBe("200 pod-0");
  expect(fresh.served).toEqual([]);
});
