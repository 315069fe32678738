/** Traces of several processes, each with an SDK of its own, joined by what the log alone says. */

import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { afterEach, expect, it } from "vitest";
import { Agent } from "../../../agent/loop/agent.ts";
import { WatchedStore } from "../../../agent/telemetry/watched-store.ts";
import { Coordinator } from "../../../coordinator/loop/coordinator.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { startTracingSdk } from "../../../protocol/adapters/opentelemetry.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { decodeRecord } from "../../../protocol/codec.ts";
import { Plan } from "../../../protocol/plan.ts";
import { TraceBook } from "../../../protocol/telemetry/trace-book.ts";
import { ChosenIds, Tracing } from "../../../protocol/telemetry/tracing.ts";
import { eventually } from "../../support/eventually.ts";
import { MemoryBlobs, MemoryBus, MemoryDisk, MemoryLog } from "../../support/memory-ports.ts";
import { ObedientStore } from "../../support/stores/obedient-store.ts";
import { assignments, migrationId, pod, STORES } from "../../support/story.ts";

const PODS = ["pod-0", "pod-100", "pod-101"];

const endings: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});

/** As in a process of its own: nothing is shared but the log. */
function process(name: string) {
  const exporter = new InMemorySpanExporter();
  const ids = new ChosenIds((bytes) => randomBytes(bytes).toString("hex"));
  const provider = new BasicTracerProvider({
    idGenerator: ids,
    spanProcessors: [new SimpleSpanProcessor(exporter)],
  });
  const attributes = { process: name };
  const tracing = new Tracing({ tracer: provider.getTracer("test"), ids, clock: systemClock, attributes });
  return { tracing, spans: () => exporter.getFinishedSpans() };
}

it("from an operator's command to what opens on every Pod: one trace of all processes", async () => {
  const log = new MemoryLog();
  const ports = { bus: new MemoryBus(), blobs: new MemoryBlobs(), clock: systemClock, logger: silentLogger };
  const deciding = process("coordinator");
  const coordinator = await Coordinator.create({
    ...ports,
    log: deciding.tracing.around(log),
    id: "c1",
    checkpoints: null,
    cluster: { pods: PODS.map(pod), defaultPodId: pod("pod-0"), stores: STORES },
  });
  await coordinator.start();
  endings.push(() => coordinator.stop());
  const agents = new Map<string, ReturnType<typeof process>>();
  for (const podId of PODS) {
    const own = process(podId);
    agents.set(podId, own);
    const disk = new MemoryDisk();
    const agent = await Agent.create({
      ...ports,
      log: own.tracing.around(log),
      podId: pod(podId),
      software: "test",
      stores: STORES.map(
        (name) =>
          new WatchedStore(new ObedientStore(name), (duty, store) => {
            const ended = own.tracing.reaching(duty, store);
            return (outcome) => ended(outcome.kind, "error" in outcome ? outcome.error : undefined);
          }),
      ),
      checkpoints: disk,
      memory: disk.memory,
    });
    await agent.start();
    endings.push(() => agent.stop());
  }
  const reaches = (lifecycle: string) =>
    eventually(() => expect(coordinator.state().migrations[migrationId]?.lifecycle).toBe(lifecycle));
  const plan = Plan.parse({
    migration: migrationId,
    source: "pod-0",
    assignments: [
      { pod: "pod-100", organizations: ["1"] },
      { pod: "pod-101", organizations: ["2"] },
    ],
    settings: { settlingMs: 20, cutover: { readLeaseMs: 200 } },
  });
  await coordinator.createPlan(plan, assignments, "operator:alice");
  await coordinator.command(migrationId, { type: "start" }, "operator:alice");
  await reaches("ready");
  await coordinator.command(migrationId, { type: "approve" }, "operator:bob");
  await reaches("retaining");
  await eventually(() => {
    for (const podId of PODS.slice(1)) {
      const names = agents
        .get(podId)
        ?.spans()
        .map(({ name }) => name);
      expect(names).toEqual(expect.arrayContaining(STORES.map((store) => `${store} serving`)));
    }
  });

  const all = [deciding, ...agents.values()].flatMap((one) => one.spans());
  const root = all.find(({ name }) => name === "command CutoverApproved");
  expect(root?.attributes["cleave.by"]).toBe("operator:bob");
  const trace = all.filter((span) => span.spanContext().traceId === root?.spanContext().traceId);
  const told = (who: string) =>
    trace.filter(({ attributes }) => attributes["process"] === who).map(({ name }) => name);
  expect(told("coordinator")).toEqual(
    expect.arrayContaining(["command CutoverApproved", "decide FenceRaised", "fold Opened"]),
  );
  expect(told("coordinator").some((name) => name.includes("AuthorityTransferred"))).toBe(true);
  expect(told("pod-0")).toEqual(
    expect.arrayContaining([
      "fold CutoverApproved",
      "fold FenceRaised",
      ...STORES.map((s) => `${s} read-only`),
    ]),
  );
  for (const podId of ["pod-100", "pod-101"])
    expect(told(podId)).toEqual(
      expect.arrayContaining([
        ...["proving equal", "promoting", "serving"].flatMap((state) => STORES.map((s) => `${s} ${state}`)),
        "decide Opened",
      ]),
    );
  // Whoever told of a span that another follows from is another process: ids agree without a word between them.
  const byId = new Map(trace.map((span) => [span.spanContext().spanId, span]));
  for (const span of trace) {
    if (span === root) expect(span.parentSpanContext).toBeUndefined();
    else expect(byId.has(span.parentSpanContext?.spanId ?? ""), span.name).toBe(true);
  }
  const fence = trace.find(({ name }) => name === "git read-only");
  expect(byId.get(fence?.parentSpanContext?.spanId ?? "")?.name).toBe("decide FenceRaised");
  // The start is another command, and another trace.
  const started = all.find(({ name }) => name === "command PreflightStarted");
  expect(started?.spanContext().traceId).not.toBe(root?.spanContext().traceId);

  // A process that begins from a checkpoint gives the same ids, and tells of nothing that others told before it.
  const late = process("late");
  const decorated = late.tracing.around(log);
  await decorated.lastSequence();
  const subscription = await decorated.subscribe(log.records.length - 2, () => undefined);
  endings.push(() => subscription.close());
  const duty = { migrationId, goal: "open", epoch: 1 } as Parameters<typeof late.tracing.reaching>[0];
  await eventually(() => {
    late.tracing.reaching(duty, "git")("reached");
    expect(late.spans().at(-1)?.spanContext().traceId).toBe(root?.spanContext().traceId);
  });
  expect(late.spans().filter(({ name }) => !name.startsWith("git "))).toEqual([]);
  expect(byId.has(late.spans().at(-1)?.parentSpanContext?.spanId ?? "")).toBe(true);

  // Nothing of it is in the log.
  for (const bytes of log.records)
    expect(Object.keys(decodeRecord(bytes)).sort()).toEqual(["at", "by", "events"]);
});

it("ids follow from migration, sequence, author and time alone", () => {
  const book = new TraceBook();
  const event = { type: "PreflightStarted" as const, v: 1 as const, migrationId, start: true };
  const command = book.fold({ at: 5, by: "operator:alice", events: [event] }, 1);
  expect(command).toMatchObject({ parent: null, types: ["PreflightStarted"] });
  expect(command?.point.traceId).toMatch(/^[0-9a-f]{32}$/);
  expect(command?.point.spanId).toMatch(/^[0-9a-f]{16}$/);
  expect(book.fold({ at: 5, by: "operator:alice", events: [event] }, 1)).toBeNull();
  const next = book.fold({ at: 6, by: "coordinator:c1", events: [event] }, 2);
  expect(next?.parent).toEqual(command?.point);
  expect(next?.point.traceId).toBe(command?.point.traceId);
  expect(next?.point.spanId).not.toBe(command?.point.spanId);
  // Of a cluster that was set up anew: the same place in another log.
  expect(new TraceBook().fold({ at: 7, by: "operator:alice", events: [event] }, 1)?.point).not.toEqual(
    command?.point,
  );
});

it("the SDK is started by the standard variables alone, and sends what it was given", async () => {
  const { env } = globalThis.process;
  const kept = { ...env };
  endings.push(() => {
    for (const name of Object.keys(env)) if (name.startsWith("OTEL_")) delete env[name];
    Object.assign(env, kept);
  });
  for (const name of Object.keys(env)) if (name.startsWith("OTEL_")) delete env[name];
  expect(await startTracingSdk("cleave-test", "one", silentLogger)).toBeNull();

  const received: string[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => {
      body += text;
    });
    request.on("end", () => {
      received.push(`${request.url} ${body}`);
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  endings.push(() => server.close());
  env["OTEL_EXPORTER_OTLP_ENDPOINT"] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  env["OTEL_RESOURCE_ATTRIBUTES"] = "deployment.environment=test";
  const sdk = await startTracingSdk("cleave-test", "one", silentLogger);
  if (sdk === null) throw new Error("it is configured");
  const point = { traceId: "0123456789abcdef0123456789abcdef", spanId: "0123456789abcdef" };
  sdk.ids.using(point, () => sdk.tracer.startSpan("decide FenceRaised")).end();
  await sdk.stop();
  expect(received).toHaveLength(1);
  const [sent = ""] = received;
  expect(sent.startsWith("/v1/traces ")).toBe(true);
  for (const part of [
    point.traceId,
    point.spanId,
    "decide FenceRaised",
    "cleave-test",
    "deployment.environment",
  ])
    expect(sent).toContain(part);

  // A collector that is away keeps nobody from stopping.
  env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9";
  const away = await startTracingSdk("cleave-test", "one", silentLogger);
  away?.tracer.startSpan("decide FenceRaised").end();
  const from = performance.now();
  await away?.stop();
  expect(performance.now() - from).toBeLessThan(4_000);
});
