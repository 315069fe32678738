import { encode } from "@msgpack/msgpack";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import type { NatsConfig } from "../../../protocol/adapters/nats-config.ts";
import { NatsLink } from "../../../protocol/adapters/nats-connection.ts";
import { LOG_STREAM, LOG_SUBJECT, NatsEventLog } from "../../../protocol/adapters/nats-event-log.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { systemRandom } from "../../../protocol/adapters/system-random.ts";
import { MAX_MESSAGE_BYTES } from "../../../protocol/codec.ts";
import { eventually } from "../../support/eventually.ts";
import { natsBackends } from "../../support/nats/backends.ts";
import type { NatsServer } from "../../support/nats/nats.ts";
import { startTcpProxy, type TcpProxy } from "../../support/tcp-proxy.ts";
import { abortedRecord, eventLogContract, read, reasonOf } from "./event-log-contract.ts";

interface NatsWorld {
  readonly server: NatsServer;
  link(config?: Partial<NatsConfig>): NatsLink;
  log(link?: NatsLink, extra?: { duplicateWindowMs?: number }): NatsEventLog;
  appendRaw(bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

async function natsWorld(start: () => Promise<NatsServer>): Promise<NatsWorld> {
  const server = await start();
  const links: NatsLink[] = [];
  const world: NatsWorld = {
    server,
    link: (config = {}) => {
      const link = new NatsLink({ ...server.config, ...config }, systemClock, silentLogger);
      links.push(link);
      return link;
    },
    log: (link = world.link(), extra = {}) =>
      new NatsEventLog({
        link,
        clock: systemClock,
        random: systemRandom,
        logger: silentLogger,
        replicas: 1,
        ...extra,
      }),
    appendRaw: async (bytes) => {
      const connection = await world.link().ready();
      await connection.jetstream().publish(LOG_SUBJECT, bytes);
    },
    close: async () => {
      await Promise.all(links.map((link) => link.close()));
      await server.stop();
    },
  };
  return world;
}

for (const backend of await natsBackends()) {
  const title = backend.skipped ? `${backend.name} (skipped: ${backend.skipped})` : backend.name;
  describe.skipIf(backend.skipped !== null)(title, () => {
    eventLogContract("NATS JetStream", async () => {
      const world = await natsWorld(backend.start);
      return {
        makeLog: async () => {
          const link = world.link();
          await link.ready();
          return world.log(link);
        },
        appendRaw: world.appendRaw,
        close: world.close,
      };
    });
    faults(backend.start);
  });
}

function faults(start: () => Promise<NatsServer>): void {
  describe("event log under faults: NATS JetStream", () => {
    let world: NatsWorld;
    let proxy: TcpProxy | null = null;
    beforeEach(async () => {
      world = await natsWorld(start);
    });
    afterEach(async () => {
      await world.server.resume();
      await world.close();
      await proxy?.close();
      proxy = null;
    });

    /** A log whose answers can be lost, on a link that works. */
    async function behindProxy(
      extra: { duplicateWindowMs?: number } = {},
    ): Promise<[NatsEventLog, TcpProxy]> {
      proxy = await startTcpProxy(world.server.port);
      const link = world.link({ servers: [`nats://127.0.0.1:${proxy.port}`] });
      await link.ready();
      const log = world.log(link, extra);
      await log.append(abortedRecord("first"), 0);
      return [log, proxy];
    }

    async function reasons(): Promise<string[]> {
      const log = world.log();
      const last = await log.lastSequence();
      const { seen, subscription } = await read(log);
      await eventually(() => expect(seen).toHaveLength(last));
      await subscription.close();
      return seen.map((s) => s.reason);
    }

    it("counts an append whose acknowledgement was lost as appended, at its own sequence", async () => {
      const [log, path] = await behindProxy();
      path.dropAnswers();
      const appending = log.append(abortedRecord("second"), 1);
      const other = world.log();
      await eventually(async () => expect(await other.lastSequence()).toBe(2));
      // Somebody else appends behind it: a repetition must not be mistaken for a new record.
      expect(await other.append(abortedRecord("third"), 2)).toEqual({ outcome: "appended", sequence: 3 });
      path.heal();
      expect(await appending).toEqual({ outcome: "appended", sequence: 2 });
      expect(await reasons()).toEqual(["first", "second", "third"]);
    });

    it("finds its own record by id when the server no longer remembers the repetition", async () => {
      const [log, path] = await behindProxy({ duplicateWindowMs: 100 });
      path.dropAnswers();
      const appending = log.append(abortedRecord("second"), 1);
      const other = world.log();
      await eventually(async () => expect(await other.lastSequence()).toBe(2));
      path.heal();
      expect(await appending).toEqual({ outcome: "appended", sequence: 2 });
      expect(await reasons()).toEqual(["first", "second"]);
    });

    it("throws LOG_APPEND_UNKNOWN when no answer comes, and the log then tells which", async () => {
      const log = world.log();
      await log.append(abortedRecord("first"), 0);
      await world.server.pause();
      await expect(log.append(abortedRecord("second"), 1)).rejects.toMatchObject({
        code: "LOG_APPEND_UNKNOWN",
      });
      await world.server.resume();
      await eventually(async () => expect([1, 2]).toContain(await log.lastSequence()), 15_000);
      const now = await reasons();
      expect([["first"], ["first", "second"]]).toContainEqual(now);
    });

    it("throws LOG_APPEND_UNKNOWN and NATS_UNREACHABLE while the server is down, and works after it", async () => {
      const link = world.link();
      const log = world.log(link);
      await log.append(abortedRecord("first"), 0);
      await world.server.kill();
      await expect(log.append(abortedRecord("second"), 1)).rejects.toMatchObject({
        code: "LOG_APPEND_UNKNOWN",
      });
      await expect(log.lastSequence()).rejects.toMatchObject({ code: "NATS_UNREACHABLE" });
      expect(link.problem()?.code).toBe("NATS_UNREACHABLE");
      await world.server.start();
      await eventually(async () => expect(await log.lastSequence()).toBe(1));
      expect(await log.append(abortedRecord("second"), 1)).toEqual({ outcome: "appended", sequence: 2 });
      expect(link.problem()).toBeNull();
    });

    it("delivers each record once and in order while the server is killed and started again", async () => {
      const log = world.log();
      const [first, second] = [await read(log), await read(world.log())];
      let last = 0;
      for (let crash = 0; crash < 3; crash++) {
        for (let i = 0; i < 20; i++) {
          const result = await log.append(abortedRecord(`${last}`), last);
          expect(result).toEqual({ outcome: "appended", sequence: ++last });
        }
        await world.server.kill();
        await world.server.start();
        await eventually(async () => expect(await log.lastSequence()).toBe(last));
      }
      await log.append(abortedRecord(`${last}`), last);
      await eventually(() => expect([first.seen.length, second.seen.length]).toEqual([last + 1, last + 1]));
      expect(first.seen).toEqual([...Array(last + 1)].map((_, i) => ({ sequence: i + 1, reason: `${i}` })));
      expect(second.seen).toEqual(first.seen);
      await Promise.all([first.subscription.close(), second.subscription.close()]);
    });

    it("finds out by itself that records were sent and did not arrive", async () => {
      const [log, path] = await behindProxy();
      const { seen, subscription } = await read(log);
      await eventually(() => expect(seen).toHaveLength(1));
      const consumers = await (await world.link().ready()).jetstreamManager();
      // The consumer disappears (as with its server): no error reaches the subscriber, only silence.
      for await (const consumer of consumers.consumers.list(LOG_STREAM))
        await consumers.consumers.delete(LOG_STREAM, consumer.name);
      await world.log().append(abortedRecord("second"), 1);
      await eventually(() => expect(seen.map((s) => s.reason)).toEqual(["first", "second"]));
      path.dropAnswers();
      await world.log().append(abortedRecord("third"), 2);
      path.heal();
      await eventually(() => expect(seen.map((s) => s.reason)).toEqual(["first", "second", "third"]));
      await subscription.close();
    });

    it("stops the delivery to a subscriber that threw, and says so", async () => {
      const broken: unknown[] = [];
      const options = { clock: systemClock, random: systemRandom, logger: silentLogger, replicas: 1 };
      const log = new NatsEventLog({
        ...options,
        link: world.link(),
        onBroken: (error) => broken.push(error),
      });
      const seen: number[] = [];
      await log.subscribe(0, (_record, sequence) => {
        seen.push(sequence);
        if (sequence === 2) throw new Error("cannot fold");
      });
      for (let i = 0; i < 3; i++) await log.append(abortedRecord(`${i}`), i);
      await eventually(() => expect(broken).toHaveLength(1));
      await eventually(async () => expect(await log.lastSequence()).toBe(3));
      expect(seen).toEqual([1, 2]);
    });

    it("shows records of newer versions as unknown events", async () => {
      const log = world.log();
      await log.append(abortedRecord("first"), 0);
      await world.appendRaw(encode({ v: 2, at: 5, by: "newer", events: [{ type: "New", v: 1 }] }));
      await world.appendRaw(encode({ v: 1, at: 5, by: "newer", events: [{ type: "FenceRaised", v: 7 }] }));
      const records: string[] = [];
      const subscription = await log.subscribe(0, (record) => void records.push(reasonOf(record)));
      await eventually(() => expect(records).toEqual(["first", "Unknown", "Unknown"]));
      await subscription.close();
    });

    it("has a stream that takes no oversized record and forgets nothing", async () => {
      const log = world.log();
      await log.append(abortedRecord("first"), 0);
      const connection = await world.link().ready();
      const tooLarge = new Uint8Array(MAX_MESSAGE_BYTES + 2_000);
      await expect(connection.jetstream().publish(LOG_SUBJECT, tooLarge)).rejects.toThrow(/maximum/);
      const manager = await connection.jetstreamManager();
      await expect(manager.streams.purge(LOG_STREAM)).rejects.toThrow();
      await expect(manager.streams.deleteMessage(LOG_STREAM, 1)).rejects.toThrow();
      expect(await log.lastSequence()).toBe(1);
    });

    it("refuses a stream of that name that may forget records", async () => {
      const manager = await (await world.link().ready()).jetstreamManager();
      await manager.streams.add({ name: LOG_STREAM, subjects: [LOG_SUBJECT], max_msgs: 10 });
      await expect(world.log().append(abortedRecord("x"), 0)).rejects.toMatchObject({
        code: "CONFIG_INVALID",
      });
    });
  });
}
