import { createHash } from "node:crypto";
import { encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { decodeAssignments, digestOf, encodeAssignments } from "../../protocol/assignments.ts";
import {
  decodeRecord,
  decodeReport,
  encodeRecord,
  encodeReport,
  MAX_MESSAGE_BYTES,
} from "../../protocol/codec.ts";
import { CleaveError } from "../../protocol/errors.ts";
import { EVENT_SCHEMAS, RecordEnvelope } from "../../protocol/events.ts";
import type { OrganizationId as Organization, PodId } from "../../protocol/ids.ts";
import { OrganizationId } from "../../protocol/ids.ts";
import { Report } from "../../protocol/messages.ts";
import { report, say } from "../support/story.ts";

const code = (action: () => unknown): string => {
  try {
    action();
  } catch (error) {
    return error instanceof CleaveError ? error.code : `not typed: ${String(error)}`;
  }
  return "no error";
};

describe("the wire format", () => {
  it("changes only together with a version", () => {
    const schemas = { ...EVENT_SCHEMAS, Report, RecordEnvelope };
    const json = Object.entries(schemas).map(([name, schema]) => [
      name,
      z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }),
    ]);
    const hash = createHash("sha256").update(JSON.stringify(json)).digest("hex").slice(0, 16);
    // If this fails you changed what other versions must read: give the event or message a new version, keep the
    // old one readable, add a log of the old version to test/protocol/replay, and only then pin the new hash.
    expect(hash).toMatchInlineSnapshot(`"a67e3923787077b3"`);
  });

  it("gives a typed error for whatever arrives, and never another", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        for (const decode of [decodeRecord, decodeReport]) {
          expect(["MESSAGE_MALFORMED", "MESSAGE_VERSION_UNKNOWN", "no error"]).toContain(
            code(() => decode(bytes)),
          );
        }
      }),
      { numRuns: 2_000 },
    );
    fc.assert(
      fc.property(fc.anything({ withBigInt: false }), (value) => {
        let bytes: Uint8Array;
        try {
          bytes = encode(value);
        } catch {
          return;
        }
        expect(["MESSAGE_MALFORMED", "MESSAGE_VERSION_UNKNOWN"]).toContain(code(() => decodeReport(bytes)));
      }),
    );
  });

  it("survives damage to real messages", () => {
    const good = encodeReport(report("pod-100", { goal: "match", evidenceEpoch: 3 }));
    fc.assert(
      fc.property(
        fc.nat({ max: good.length - 1 }),
        fc.integer({ min: 0, max: 255 }),
        fc.nat({ max: good.length }),
        (at, byte, cut) => {
          const damaged = Uint8Array.from(good);
          damaged[at] = byte;
          expect(["MESSAGE_MALFORMED", "MESSAGE_VERSION_UNKNOWN", "no error"]).toContain(
            code(() => decodeReport(damaged)),
          );
          if (cut < good.length)
            expect(code(() => decodeReport(good.subarray(0, cut)))).toBe("MESSAGE_MALFORMED");
        },
      ),
    );
  });

  it("refuses what is too large before decoding it, in both directions", () => {
    expect(code(() => decodeReport(new Uint8Array(MAX_MESSAGE_BYTES + 1)))).toBe("MESSAGE_OVERSIZED");
    const events = Array.from({ length: 20 }, () => ({
      ...say.passed(),
      findings: Array.from({ length: 500 }, () => ({
        store: null,
        severity: "info",
        code: "INTERNAL",
        message: "x".repeat(2_000),
      })),
    }));
    expect(code(() => encodeRecord({ v: 1, at: 1, by: "test", events: events as never }))).toBe(
      "MESSAGE_OVERSIZED",
    );
  });

  it("names the version that it does not know", () => {
    expect(code(() => decodeReport(encode({ ...report("pod-0", { goal: "serve" }), v: 3 })))).toBe(
      "MESSAGE_VERSION_UNKNOWN",
    );
    expect(code(() => decodeRecord(encode({ v: 9, at: 1, by: "x", events: [] })))).toBe(
      "MESSAGE_VERSION_UNKNOWN",
    );
  });

  it("never writes an event that it could not read back", () => {
    expect(
      code(() => encodeRecord({ v: 1, at: 1, by: "x", events: [{ ...say.fenced(), epoch: -1 } as never] })),
    ).toBe("MESSAGE_MALFORMED");
  });
});

describe("assignments", () => {
  const organization = fc
    .string({ unit: "binary", minLength: 1, maxLength: 40 })
    .filter((s) => OrganizationId.safeParse(s).success);
  it("come back the same, with one digest whatever their order", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(organization, { maxLength: 30 }),
        fc.array(fc.constantFrom("pod-1", "pod-2"), { minLength: 30, maxLength: 30 }),
        (ids, pods) => {
          const entries = ids.map((id, i) => [id as Organization, pods[i] as PodId] as const);
          const bytes = encodeAssignments(new Map(entries));
          expect(digestOf(encodeAssignments(new Map([...entries].reverse())))).toBe(digestOf(bytes));
          expect(new Map([...decodeAssignments(bytes, digestOf(bytes))].sort())).toEqual(
            new Map([...entries].sort()),
          );
        },
      ),
    );
  });
  it("with another digest are corrupt", () => {
    const bytes = encodeAssignments(new Map([["1" as Organization, "pod-1" as PodId]]));
    expect(code(() => decodeAssignments(bytes.subarray(1), digestOf(bytes)))).toBe("BLOB_CORRUPT");
  });
});
