/** What every EventLog has to do: the real one and the simulator's model run the same tests. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ClusterEvent, LogRecord, ReadRecord } from "../../../protocol/events.ts";
import type { MigrationId } from "../../../protocol/ids.ts";
import type { EventLog, LogSubscription } from "../../../protocol/ports/event-log.ts";
import { eventually } from "../../support/eventually.ts";

export interface EventLogWorld {
  /** A log of one more process, on the same records. */
  makeLog(): Promise<EventLog>;
  /** Stores bytes that no Cleave wrote, behind the last record. */
  appendRaw(bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export function abortedRecord(reason: string): LogRecord {
  const event: ClusterEvent = {
    type: "MigrationAborted",
    v: 1,
    migrationId: "split-1" as MigrationId,
    reason,
  };
  return { v: 1, at: 1_700_000_000_000, by: "test", events: [event] };
}

export interface Reader {
  readonly seen: { readonly sequence: number; readonly reason: string }[];
  readonly subscription: LogSubscription;
}

export async function read(log: EventLog, afterSequence = 0): Promise<Reader> {
  const seen: { sequence: number; reason: string }[] = [];
  const subscription = await log.subscribe(afterSequence, (record, sequence) => {
    seen.push({ sequence, reason: reasonOf(record) });
  });
  return { seen, subscription };
}

/** The reason of an aborted record; otherwise the types of the events. */
export function reasonOf(record: ReadRecord): string {
  return record.events.map((e) => (e.type === "MigrationAborted" ? e.reason : e.type)).join(",");
}

export function eventLogContract(name: string, makeWorld: () => Promise<EventLogWorld>): void {
  describe(`event log: ${name}`, () => {
    let world: EventLogWorld;
    beforeEach(async () => {
      world = await makeWorld();
    });
    afterEach(() => world.close());

    it("starts empty, at sequence 0", async () => {
      const log = await world.makeLog();
      expect(await log.lastSequence()).toBe(0);
    });

    it("appends after the expected sequence and refuses after any other", async () => {
      const log = await world.makeLog();
      expect(await log.append(abortedRecord("a"), 0)).toEqual({ outcome: "appended", sequence: 1 });
      expect(await log.append(abortedRecord("b"), 0)).toEqual({ outcome: "conflict" });
      expect(await log.append(abortedRecord("b"), 2)).toEqual({ outcome: "conflict" });
      expect(await log.append(abortedRecord("b"), 1)).toEqual({ outcome: "appended", sequence: 2 });
      expect(await log.lastSequence()).toBe(2);
    });

    it("lets exactly one of concurrent appenders win each sequence", async () => {
      const logs = await Promise.all([world.makeLog(), world.makeLog(), world.makeLog(), world.makeLog()]);
      const won: string[] = [];
      for (let round = 0; round < 25; round++) {
        const results = await Promise.all(
          logs.map((log, i) => log.append(abortedRecord(`${round}.${i}`), round)),
        );
        const winners = results.flatMap((result, i) =>
          result.outcome === "appended" ? [`${round}.${i}`] : [],
        );
        expect(winners).toHaveLength(1);
        won.push(...winners);
      }
      const { seen, subscription } = await read(logs[0] as EventLog);
      await eventually(() => expect(seen).toHaveLength(25));
      expect(seen.map((s) => s.reason)).toEqual(won);
      await subscription.close();
    });

    it("lets one of two appends of the very same record win, not both", async () => {
      const [a, b] = [await world.makeLog(), await world.makeLog()];
      const results = await Promise.all([a.append(abortedRecord("x"), 0), b.append(abortedRecord("x"), 0)]);
      expect(results.map((r) => r.outcome).sort()).toEqual(["appended", "conflict"]);
    });

    it("delivers from the middle, in order, and goes on with new records", async () => {
      const log = await world.makeLog();
      for (let i = 0; i < 10; i++) await log.append(abortedRecord(`${i}`), i);
      const { seen, subscription } = await read(log, 4);
      await eventually(() => expect(seen).toHaveLength(6));
      for (let i = 10; i < 15; i++) await log.append(abortedRecord(`${i}`), i);
      await eventually(() => expect(seen).toHaveLength(11));
      expect(seen.map((s) => s.sequence)).toEqual([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
      expect(seen.map((s) => s.reason)).toEqual(seen.map((s) => `${s.sequence - 1}`));
      await subscription.close();
    });

    it("gives two subscribers the same records in the same order", async () => {
      const [a, b] = [await world.makeLog(), await world.makeLog()];
      const [first, second] = [await read(a), await read(b)];
      for (let i = 0; i < 50; i++) await (i % 2 ? a : b).append(abortedRecord(`${i}`), i);
      await eventually(() => expect([first.seen.length, second.seen.length]).toEqual([50, 50]));
      expect(first.seen).toEqual(second.seen);
      await Promise.all([first.subscription.close(), second.subscription.close()]);
    });

    it("awaits a subscriber before it gives the next record", async () => {
      const log = await world.makeLog();
      let inside = 0;
      let most = 0;
      const sequences: number[] = [];
      const subscription = await log.subscribe(0, async (_record, sequence) => {
        most = Math.max(most, ++inside);
        await new Promise((resolve) => setTimeout(resolve, 5));
        inside--;
        sequences.push(sequence);
      });
      for (let i = 0; i < 10; i++) await log.append(abortedRecord(`${i}`), i);
      await eventually(() => expect(sequences).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
      expect(most).toBe(1);
      await subscription.close();
    });

    it("delivers nothing after close", async () => {
      const log = await world.makeLog();
      const { seen, subscription } = await read(log);
      await log.append(abortedRecord("before"), 0);
      await eventually(() => expect(seen).toHaveLength(1));
      await subscription.close();
      await log.append(abortedRecord("after"), 1);
      // The record is there, and another reader gets it; this one must not.
      const other = await read(log, 1);
      await eventually(() => expect(other.seen).toHaveLength(1));
      await other.subscription.close();
      expect(seen).toHaveLength(1);
    });

    it("refuses records that are oversized or malformed, and stores nothing of them", async () => {
      const log = await world.makeLog();
      const oversized = { ...abortedRecord("x"), events: [...Array(20)].map(() => findings(40)) };
      await expect(log.append(oversized as LogRecord, 0)).rejects.toMatchObject({
        code: "MESSAGE_OVERSIZED",
      });
      const malformed = { ...abortedRecord("x"), at: "yesterday" } as unknown as LogRecord;
      await expect(log.append(malformed, 0)).rejects.toMatchObject({ code: "MESSAGE_MALFORMED" });
      expect(await log.lastSequence()).toBe(0);
    });

    it("reads over bytes that no Cleave wrote, and keeps the sequence", async () => {
      const log = await world.makeLog();
      await log.append(abortedRecord("before"), 0);
      await world.appendRaw(new Uint8Array([0xc1, 0xff, 0x00]));
      expect(await log.append(abortedRecord("after"), 2)).toEqual({ outcome: "appended", sequence: 3 });
      const { seen, subscription } = await read(log);
      await eventually(() => expect(seen).toHaveLength(3));
      expect(seen.map((s) => s.reason)).toEqual(["before", "", "after"]);
      await subscription.close();
    });
  });
}

function findings(count: number): ClusterEvent {
  const finding = { store: null, severity: "error", code: "DISK_FULL", message: "x".repeat(2_000) } as const;
  return {
    type: "PreflightRefused",
    v: 1,
    migrationId: "split-1" as MigrationId,
    findings: Array(count).fill(finding),
  };
}
