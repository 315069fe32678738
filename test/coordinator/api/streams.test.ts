/** Server-sent events on a real coordinator: nothing missed, nothing twice, and no listener can do harm. */
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { ClusterStatus } from "../../../coordinator/api/ports.ts";
import { Plan } from "../../../protocol/plan.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { eventually } from "../../support/eventually.ts";
import { assignments, migrationId } from "../../support/story.ts";

let api: ApiFixture;
const aborts: AbortController[] = [];
beforeEach(async () => {
  api = await startApi();
});
afterEach(async () => {
  for (const abort of aborts.splice(0)) abort.abort();
  await api.stop();
});

interface Heard<T> {
  readonly events: { readonly id: string | null; readonly data: T; readonly atMs: number }[];
  close(): void;
}

async function listen<T>(path: string, headers: Record<string, string> = {}): Promise<Heard<T>> {
  const abort = new AbortController();
  aborts.push(abort);
  const response = await fetch(`${api.url}${path}`, {
    headers: { accept: "text/event-stream", ...headers },
    signal: abort.signal,
  });
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  const events: Heard<T>["events"] = [];
  void (async () => {
    let text = "";
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const block = text.slice(0, end);
        text = text.slice(end + 2);
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (data === undefined) continue;
        const id = /^id: (.*)$/m.exec(block)?.[1] ?? null;
        events.push({ id, data: JSON.parse(data) as T, atMs: performance.now() });
      }
    }
  })().catch(() => undefined);
  return { events, close: () => abort.abort() };
}

const plan = Plan.parse({
  migration: migrationId,
  source: "pod-0",
  assignments: [
    { pod: "pod-100", organizations: ["1"] },
    { pod: "pod-101", organizations: ["2"] },
  ],
  settings: { settlingMs: 50, cutover: { approval: "auto", readLeaseMs: 200 } },
});
const start = async () => {
  await api.coordinator.createPlan(plan, assignments, "operator:test");
  await api.coordinator.command(migrationId, { type: "start" }, "operator:test");
};

it("every record of the log is told once and in order, also over a broken connection", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const first = await listen<{ sequence: number }>("/v1/events");
  await start();
  await eventually(() => expect(first.events.length).toBeGreaterThanOrEqual(3));
  first.close();
  const last = first.events.at(-1);
  const second = await listen<{ sequence: number }>("/v1/events?after=0", {
    "last-event-id": last?.id ?? "",
  });
  await eventually(() =>
    expect(api.coordinator.state().migrations[migrationId]?.lifecycle).toBe("retaining"),
  );
  const wanted = Array.from({ length: api.log.records.length }, (_, index) => index + 1);
  await eventually(() =>
    expect([...first.events, ...second.events].map((event) => event.data.sequence)).toEqual(wanted),
  );
  expect(second.events.every((event) => event.id === String(event.data.sequence))).toBe(true);
});

it("a page smaller than what is new does not leave the rest for later", async () => {
  await start();
  const heard = await listen<{ sequence: number }>("/v1/events?limit=1");
  await eventually(() => expect(heard.events.map((event) => event.data.sequence)).toEqual([1, 2, 3]), 1_000);
});

it("the status is told on change, the last one always, and at most every 100 ms", async () => {
  const heard = await listen<ClusterStatus>("/v1/status/stream");
  await eventually(() => expect(heard.events).toHaveLength(1), 1_000);
  await api.startAgents("pod-0", "pod-100", "pod-101");
  await start();
  await eventually(() =>
    expect(heard.events.at(-1)?.data.migrations[0]?.lifecycle, "the last change").toBe("retaining"),
  );
  const gaps = heard.events.slice(1).map((event, index) => event.atMs - (heard.events[index]?.atMs ?? 0));
  const tooSoon = gaps.filter((gap) => gap < 60);
  expect(heard.events.length).toBeGreaterThan(3);
  // What the server spaced may be read together after a pause of this process, but not as a rule.
  expect(tooSoon.length).toBeLessThanOrEqual(gaps.length / 3);
});

it("a listener that reads nothing costs little memory, and others are told as before", async () => {
  const slow = await new Promise<Socket>((resolve, reject) => {
    const socket = connect(api.port, "127.0.0.1", () => resolve(socket));
    socket.on("error", reject);
  });
  slow.pause();
  slow.write("GET /v1/status/stream HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
  await api.coordinator.createPlan(plan, assignments, "operator:test");
  // A status of a megabyte: as with very many problems; a few of them fill every buffer on the way.
  const status = api.coordinator.status();
  const padded = { ...status, padding: "x".repeat(1024 * 1024) };
  let asked = 0;
  api.coordinator.status = () => {
    asked += 1;
    return padded;
  };
  await delay(3_000);
  expect(Math.max(...api.sockets().map((socket) => socket.writableLength))).toBeLessThan(4 * 1024 * 1024);
  const before = asked;
  await delay(1_500);
  expect(asked, "a full listener is not even asked for").toBe(before);
  slow.destroy();
  const heard = await listen<{ sequence: number }>("/v1/status/stream");
  await eventually(() => expect(heard.events.length).toBeGreaterThan(0), 3_000);
});

it("a listener that goes away is forgotten", async () => {
  const before = api.listeners();
  const heard = await listen("/v1/status/stream");
  expect(api.listeners()).toBe(before + 1);
  heard.close();
  await eventually(() => expect(api.listeners()).toBe(before));
});

it("an error while a stream is written ends that stream and nothing else", async () => {
  const heard = await listen<ClusterStatus>("/v1/status/stream");
  await eventually(() => expect(heard.events).toHaveLength(1));
  const { status } = api.coordinator;
  api.coordinator.status = () => {
    throw new Error("a bug");
  };
  await eventually(() => expect(api.listeners()).toBe(0), 3_000);
  api.coordinator.status = status;
  expect((await fetch(`${api.url}/v1/status`)).status).toBe(200);
});
