/** What every bus has to do: the real one and the simulator's model run the same tests. */
import { encode } from "@msgpack/msgpack";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { encodeReport, MAX_MESSAGE_BYTES } from "../../../protocol/codec.ts";
import type { PodId } from "../../../protocol/ids.ts";
import type { Report } from "../../../protocol/messages.ts";
import type { Bus } from "../../../protocol/ports/bus.ts";
import { eventually } from "../../support/eventually.ts";

export function report(podId: string, reportSequence: number): Report {
  return {
    v: 2,
    podId: podId as PodId,
    incarnation: 1,
    reportSequence,
    appliedSequence: 0,
    at: 1_700_000_000_000,
    software: "test",
    notUnderstood: null,
    migrations: {},
  };
}

export interface BusWorld {
  makeBus(): Promise<Bus>;
  /** Sends bytes as if they were a report of that Pod. */
  sendRaw(podId: string, bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export function busContract(name: string, makeWorld: () => Promise<BusWorld>): void {
  describe(`bus: ${name}`, () => {
    let world: BusWorld;
    beforeEach(async () => {
      world = await makeWorld();
    });
    afterEach(() => world.close());

    async function listening() {
      const bus = await world.makeBus();
      const got: Report[] = [];
      const bad: string[] = [];
      const stop = bus.onReport(
        (r) => got.push(r),
        (error) => bad.push((error as { code?: string }).code ?? error.message),
      );
      return { bus, got, bad, stop };
    }

    /** Publishes until it arrives: reports may be lost, above all before a subscription is known to the server. */
    async function heard(from: Bus, podId: string, got: Report[]): Promise<void> {
      let sequence = 0;
      await eventually(() => {
        from.publishReport(report(podId, ++sequence));
        expect(got.some((r) => r.podId === podId)).toBe(true);
      });
    }

    it("carries reports of every Pod to every listener", async () => {
      const [a, b] = [await listening(), await listening()];
      await heard(a.bus, "pod-0", b.got);
      await heard(b.bus, "pod-1", a.got);
      await eventually(() => expect(a.got.some((r) => r.podId === "pod-0")).toBe(true));
      expect([...a.bad, ...b.bad]).toEqual([]);
      // Which one came first depends on when the subscription was known.
      const [first] = b.got.filter((r) => r.podId === "pod-0");
      expect(first).toMatchObject(report("pod-0", first?.reportSequence ?? 1));
    });

    it("carries a problem whose code only a newer version knows: the report is read all the same", async () => {
      const { bus, got, bad } = await listening();
      await heard(bus, "pod-0", got);
      const problems = [{ code: "OF_TOMORROW", message: "nobody here knows it" }];
      const git = { goal: "follow", reached: false, progress: null, lag: null, verified: false } as const;
      const stores = { git: { ...git, evidence: null, problems, stragglers: [] } };
      const migrations = { "split-1": { stores, preflight: null, dormantEpoch: 0 } };
      bus.publishReport({ ...report("pod-1", 1), migrations });
      await eventually(() => expect(got.find((r) => r.podId === "pod-1")).toMatchObject({ migrations }));
      expect(bad).toEqual([]);
    });

    it("gives nothing after unsubscribing", async () => {
      const [a, b] = [await listening(), await listening()];
      await heard(a.bus, "pod-0", b.got);
      b.stop();
      const before = b.got.length;
      a.got.length = 0;
      await heard(a.bus, "pod-0", a.got);
      expect(b.got).toHaveLength(before);
    });

    it("gives malformed, oversized, wrong-version and misattributed reports to onBad alone", async () => {
      const { bus, got, bad } = await listening();
      await heard(bus, "pod-0", got);
      const good = got.length;
      await world.sendRaw("pod-1", new Uint8Array([0xc1]));
      await world.sendRaw("pod-1", encode({ ...report("pod-1", 1), incarnation: -1 }));
      await world.sendRaw("pod-1", encode({ ...report("pod-1", 1), v: 3 }));
      await world.sendRaw("pod-1", new Uint8Array(MAX_MESSAGE_BYTES + 1));
      await world.sendRaw("pod-1", encodeReport(report("pod-2", 1)));
      await eventually(() => expect(bad).toHaveLength(5));
      expect(bad.sort()).toEqual(
        ["MALFORMED", "MALFORMED", "VERSION_UNKNOWN", "OVERSIZED", "MALFORMED"]
          .map((c) => `MESSAGE_${c}`)
          .sort(),
      );
      expect(got.slice(good).filter((r) => r.podId !== "pod-0")).toEqual([]);
    });

    it("refuses to publish a report that does not fit its schema", async () => {
      const bus = await world.makeBus();
      expect(() => bus.publishReport({ ...report("pod-0", 1), incarnation: 0 })).toThrow(
        expect.objectContaining({ code: "MESSAGE_MALFORMED" }),
      );
    });
  });
}
