/** Logs and reports that were written with older words are read with today's; the files of `replay/` are of then. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { decodeRecord, decodeReport, encodeRecord } from "../../protocol/codec.ts";
import type { ClusterEvent } from "../../protocol/events.ts";

const file = new URL("./replay/way-back.json", import.meta.url);
const then = JSON.parse(readFileSync(file, "utf8")) as {
  readonly records: readonly string[];
  readonly report: string;
};
const bytes = (text: string) => new Uint8Array(Buffer.from(text, "base64"));
const records = then.records.map((text) => decodeRecord(bytes(text)));
const events = records.flatMap((record) => record.events);
const named = (type: ClusterEvent["type"]) => events.find((event) => event.type === type);

describe("a log of the time when reverse replication was called the way back", () => {
  it("is understood to its end", () => {
    expect(events.map(({ type }) => type)).toEqual([
      "ClusterConfigured",
      "MigrationPlanned",
      "MovePlanned",
      "RollbackPlanned",
      "ReverseReplicationGivenUp",
      "MigrationPaused",
      "RemovalCheckStarted",
    ]);
  });

  it("says what it said", () => {
    expect(named("MigrationPlanned")).toHaveProperty("settings.retention.reverseReplication", "none");
    expect(named("MovePlanned")).toHaveProperty("settings.retention.reverseReplication", "replicated");
    expect(named("RollbackPlanned")).toHaveProperty("settings.retention.forMs", 5);
    expect(named("ReverseReplicationGivenUp")).toMatchObject({
      podId: "pod-101",
      reason: "its disk is full",
    });
    expect(named("RemovalCheckStarted")).toMatchObject({ end: true, despiteReverseReplication: true });
    for (const event of events) expect(JSON.stringify(event)).not.toMatch(/wayBack/i);
  });

  it("and is the same when it is written with today's words", () => {
    for (const record of records) {
      const again = encodeRecord({ v: 1, ...record, events: record.events as readonly ClusterEvent[] });
      expect(decodeRecord(again)).toEqual(record);
    }
  });

  it("the report too", () => {
    const { v, migrations } = decodeReport(bytes(then.report));
    expect(v).toBe(2);
    expect(Object.values(migrations)[0]?.stores.postgres?.reverseReplication).toEqual({
      "pod-100": { lag: { amount: 7, unit: "bytes" }, verified: true, problem: null },
    });
  });
});

it("an event that is of neither time is not understood, and stops its migration alone", () => {
  const [planned] = records[1]?.events ?? [];
  const future = { ...planned, v: 4 } as unknown as ClusterEvent;
  expect(() => encodeRecord({ v: 1, at: 1, by: "operator:alice", events: [future] })).toThrow();
});
