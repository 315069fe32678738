/** Notifications to a real HTTP server: one that fails first, one that is away, restarts, two coordinators. */
import { createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { stringify } from "yaml";
import { loadCoordinatorConfig } from "../../../coordinator/config.ts";
import type { Webhook } from "../../../coordinator/webhooks/config.ts";
import type { Notification } from "../../../coordinator/webhooks/notification.ts";
import { WebhookNotifier } from "../../../coordinator/webhooks/notifier.ts";
import { FilePositions } from "../../../coordinator/webhooks/positions.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { ClusterEvent } from "../../../protocol/events.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import { eventually } from "../../support/eventually.ts";
import { MemoryLog } from "../../support/memory-ports.ts";
import { say } from "../../support/story.ts";

const SECRET = "a-secret-of-sufficient-length";

interface Heard {
  readonly notification: Notification;
  readonly signature: string | undefined;
  readonly body: string;
}

let folder: string;
let log: MemoryLog;
const endings: (() => Promise<unknown> | unknown)[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-webhooks-"));
  log = new MemoryLog();
});
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
  await rm(folder, { recursive: true, force: true });
});

/** Answers what `answer` says to the nth request; 0: not at all. */
async function receiver(
  answer: (n: number) => number,
): Promise<{ url: string; heard: Heard[]; asked: () => number }> {
  const heard: Heard[] = [];
  let asked = 0;
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => {
      body += text;
    });
    request.on("end", () => {
      asked += 1;
      const status = answer(asked);
      if (status === 0) return;
      if (status < 300) {
        const signature = request.headers["cleave-signature"] as string | undefined;
        heard.push({ notification: JSON.parse(body) as Notification, signature, body });
      }
      response.writeHead(status, status === 302 ? { location: "/elsewhere" } : {}).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  endings.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/told`,
    heard,
    asked: () => asked,
  };
}

/** Real time but for the pauses between attempts, which are noted. */
function hurried(pauses: number[]): Clock {
  return {
    ...systemClock,
    sleep: (ms, signal) => {
      pauses.push(ms);
      return systemClock.sleep(1, signal);
    },
  };
}

async function notifier(webhooks: readonly Webhook[], pauses: number[] = [], file = "webhooks.json") {
  const positions = await FilePositions.open(join(folder, file));
  const outcomes: string[] = [];
  const created = new WebhookNotifier({
    webhooks,
    log,
    positions,
    clock: hurried(pauses),
    logger: silentLogger,
    onDelivery: (name, outcome) => outcomes.push(`${name} ${outcome}`),
  });
  await created.start();
  endings.push(() => created.stop());
  return { created, outcomes };
}

const webhook = (url: string, more: Partial<Webhook> = {}): Webhook => ({
  name: "chat",
  url,
  secret: null,
  timeoutMs: 2_000,
  ...more,
});

async function append(...events: ClusterEvent[]): Promise<void> {
  const by = "coordinator:c1";
  await log.append({ v: 1, at: 1_000 + log.records.length, by, events }, log.records.length);
}

it("a receiver that fails, hangs and redirects first is told everything, in order, signed", async () => {
  await append(say.configured());
  const { url, heard } = await receiver((n) => [500, 0, 302, 404][n - 1] ?? 204);
  const pauses: number[] = [];
  const { created, outcomes } = await notifier([webhook(url, { secret: SECRET })], pauses);
  await append(say.planned());
  await append(say.checking());
  await append(say.passed());
  await eventually(() => expect(heard).toHaveLength(3));
  expect(heard.map(({ notification }) => notification)).toEqual([
    expect.objectContaining({
      id: "2.0",
      type: "MigrationPlanned",
      from: null,
      to: "planned",
      migration: "split-1",
    }),
    expect.objectContaining({
      id: "3.0",
      type: "PreflightStarted",
      from: "planned",
      to: "preflight",
      at: 1_002,
    }),
    expect.objectContaining({
      id: "4.0",
      type: "PreflightPassed",
      from: "preflight",
      to: "seeding",
      sequence: 4,
    }),
  ]);
  // Pauses double; the hanging answer was given up on.
  expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000]);
  expect(outcomes.filter((outcome) => outcome === "chat failed")).toHaveLength(4);
  for (const { signature = "", body } of heard) {
    const [, seconds, hmac] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(signature) ?? [];
    expect(hmac).toBe(createHmac("sha256", SECRET).update(`${seconds}.${body}`).digest("hex"));
    expect(Math.abs(Number(seconds) - Date.now() / 1_000)).toBeLessThan(60);
  }
  await eventually(() => expect(created.pending().get("chat")).toBe(0));
});

it("what happened while the coordinator was down is told after its next start, and nothing before the first", async () => {
  await append(say.configured(), say.planned());
  const { url, heard } = await receiver(() => 200);
  const first = await notifier([webhook(url)]);
  await append(say.checking());
  await eventually(() => expect(heard).toHaveLength(1));
  await eventually(() => expect(first.created.pending().get("chat")).toBe(0));
  await first.created.stop();
  await append(say.passed());
  await append(say.seeded());
  await notifier([webhook(url)]);
  await eventually(() =>
    expect(heard.map(({ notification }) => notification.id)).toEqual(["2.0", "3.0", "4.0"]),
  );
  // The state before is known although this process never saw the plan being made.
  expect(heard.at(-1)?.notification).toMatchObject({ from: "seeding", to: "following" });
});

it("one that was not answered when the process ended is told again: at least once", async () => {
  await append(say.configured(), say.planned());
  const deaf = await receiver(() => 503);
  const first = await notifier([webhook(deaf.url)]);
  await append(say.checking());
  await eventually(() => expect(deaf.asked()).toBeGreaterThan(1));
  expect(first.created.pending().get("chat")).toBe(1);
  await first.created.stop();
  const { url, heard } = await receiver(() => 200);
  await notifier([webhook(url)]);
  await eventually(() => expect(heard.map(({ notification }) => notification.id)).toEqual(["2.0"]));
});

it("a receiver that is away holds up neither the others nor the log", async () => {
  await append(say.configured());
  const { url, heard } = await receiver(() => 200);
  const { created } = await notifier([webhook("http://127.0.0.1:9/", { name: "away" }), webhook(url)]);
  await append(say.planned());
  await append(say.checking());
  await eventually(() => expect(heard).toHaveLength(2));
  expect(created.pending().get("away")).toBe(2);
});

it("a webhook is told of the events that it asks for", async () => {
  await append(say.configured());
  const { url, heard } = await receiver(() => 200);
  const { created } = await notifier([webhook(url, { events: ["PreflightPassed"] })]);
  await append(say.planned());
  await append(say.checking());
  await append(say.passed());
  await eventually(() => expect(created.pending().get("chat")).toBe(0));
  await eventually(() =>
    expect(heard.map(({ notification }) => notification.type)).toEqual(["PreflightPassed"]),
  );
});

it("two coordinators tell the same under the same id", async () => {
  await append(say.configured());
  const { url, heard } = await receiver(() => 200);
  await notifier([webhook(url)], [], "one.json");
  await notifier([webhook(url)], [], "two.json");
  await append(say.planned());
  await eventually(() => expect(heard).toHaveLength(2));
  expect(heard[0]?.body).toBe(heard[1]?.body);
});

it("a damaged file of positions is not guessed", async () => {
  await writeFile(join(folder, "webhooks.json"), "{");
  await expect(FilePositions.open(join(folder, "webhooks.json"))).rejects.toThrow("is damaged");
});

it("the configuration names, signs and remembers", async () => {
  const path = join(folder, "coordinator.yaml");
  const write = (more: object) =>
    writeFile(path, stringify({ cluster: { pods: ["pod-0"], defaultPod: "pod-0" }, ...more }));
  await writeFile(join(folder, "secret"), `${SECRET}\n`);
  const hook = { name: "chat", url: "https://chat.example/hook", secretFile: "secret", events: ["Opened"] };
  await write({ stateDirectory: "state", webhooks: [hook] });
  expect((await loadCoordinatorConfig(path)).webhooks).toEqual([
    { name: "chat", url: "https://chat.example/hook", events: ["Opened"], timeoutMs: 5_000, secret: SECRET },
  ]);
  await write({ webhooks: [hook] });
  await expect(loadCoordinatorConfig(path)).rejects.toThrow("give a stateDirectory");
  await write({ stateDirectory: "state", webhooks: [hook, hook] });
  await expect(loadCoordinatorConfig(path)).rejects.toThrow("the same name");
  await write({ stateDirectory: "state", webhooks: [{ ...hook, url: "file:///etc/passwd" }] });
  await expect(loadCoordinatorConfig(path)).rejects.toThrow("url");
});
