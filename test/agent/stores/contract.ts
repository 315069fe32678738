/**
 * What every store has to do for the protocol, seen from the agent that drives it and from a writer that knows nothing of
 * Cleave: the real stores and the simulator's models run the same tests, so that what the simulator proves holds for both.
 */
import { afterEach, describe, expect, it } from "vitest";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { CleaveError } from "../../../protocol/errors.ts";
import type { Goal, StoreStatus } from "../../../protocol/evidence.ts";
import type { MigrationKind } from "../../../protocol/plan.ts";
import type { Removal } from "../../../protocol/ports/store.ts";
import { eventually } from "../../support/eventually.ts";

export type Side = "source" | "target";

/** A source and one target, each with one store. One organization moves, another one stays. */
export interface StorePair {
  /** What the plan was: after a split the target has everything. */
  readonly kind: MigrationKind;
  /** One call of `Store.reach`, as an agent makes it. */
  reach(
    side: Side,
    goal: Goal,
    phase: SharePhase,
    epoch: number | null,
    signal: AbortSignal,
    removal?: Removal | null,
  ): Promise<void>;
  /** Something of the organization is there. */
  holds(side: Side, organization: "moving" | "staying"): Promise<boolean>;
  status(side: Side): StoreStatus | null;
  /** The agent's process ends, and another one is started in its place; it has not reached anything yet. */
  restart(side: Side): Promise<void>;
  write(side: Side, organization: "moving" | "staying"): Promise<"written" | "fenced" | "wrongPod">;
  /** The target holds nothing. */
  isEmpty(): Promise<boolean>;
  remove(): Promise<void>;
}

const WITHIN_MS = 20_000;

export function storeContract(name: string, makePair: () => Promise<StorePair>): void {
  describe(`store: ${name}`, () => {
    let pair: StorePair;
    afterEach(() => pair?.remove());

    /** Again after a failure, as the agent calls it. */
    async function reach(side: Side, goal: Goal, phase: SharePhase, epoch: number | null = null) {
      const signal = AbortSignal.timeout(WITHIN_MS);
      await eventually(() => pair.reach(side, goal, phase, epoch, signal), WITHIN_MS, 50);
      if (goal !== "release") expect(pair.status(side)).toMatchObject({ goal, reached: true, problems: [] });
    }

    async function following() {
      pair = await makePair();
      expect(pair.status("source")).toBeNull();
      await Promise.all([reach("source", "prepare", "source"), reach("target", "seed", "source")]);
      await reach("source", "serve", "source");
      await reach("target", "follow", "source");
    }

    const evidence = (side: Side) => pair.status(side)?.evidence;

    /** Fenced and equal; returns the digest of both. */
    async function matched(epoch: number): Promise<string | undefined> {
      await Promise.all([
        reach("source", "fence", "fenced", epoch),
        reach("target", "match", "fenced", epoch),
      ]);
      expect(evidence("source")).toMatchObject({ epoch });
      expect(evidence("target")).toMatchObject({ epoch, digest: evidence("source")?.digest });
      return evidence("source")?.digest;
    }

    const writes = async (side: Side) => [
      await pair.write(side, "moving"),
      await pair.write(side, "staying"),
    ];

    it("fences, matches, lowers, fences anew, hands over and opens; each word outlives its agent", async () => {
      await following();
      expect(await writes("source")).toEqual(["written", "written"]);

      // Rule 5: without the marker of this very epoch there is no match, however equal everything is.
      const before = new AbortController();
      const early = pair.reach("target", "match", "fenced", 1, before.signal);
      const gaveUp = expect(early).rejects.toThrow("the duty changed");
      setTimeout(() => before.abort(new Error("the duty changed")), 100);
      await gaveUp;
      expect(pair.status("target")).toMatchObject({ goal: "match", reached: false });
      expect(evidence("target") ?? null).toBeNull();

      // Rule 4: what is reached is refused to writers; neighbours write on.
      const first = await matched(1);
      expect(await writes("source")).toEqual(["fenced", "written"]);
      // The same again is the same, and so it is for another agent; the fence did not wait for it.
      expect(await matched(1)).toBe(first);
      await Promise.all([pair.restart("source"), pair.restart("target")]);
      expect(await writes("source")).toEqual(["fenced", "written"]);
      expect(await matched(1)).toBe(first);

      await Promise.all([reach("source", "serve", "source", 1), reach("target", "follow", "source", 1)]);
      expect(await writes("source")).toEqual(["written", "written"]);
      expect([evidence("source") ?? null, evidence("target") ?? null]).toEqual([null, null]);
      expect(await matched(2)).not.toBe(first);

      // Rule 7: promoted and itself, and still closed to everybody.
      await Promise.all([
        reach("source", "yield", "transferred", 2),
        reach("target", "activate", "transferred", 2),
      ]);
      expect(await writes("source")).toEqual(["wrongPod", "written"]);
      expect(await writes("target")).toEqual(["fenced", "wrongPod"]);
      await reach("target", "activate", "transferred", 2);
      await Promise.all([reach("source", "yield", "opened", 2), reach("target", "open", "opened", 2)]);
      await Promise.all([pair.restart("source"), pair.restart("target")]);
      expect(await writes("source")).toEqual(["wrongPod", "written"]);
      expect(await writes("target")).toEqual(["written", "wrongPod"]);
      await reach("target", "open", "opened", 2);
      expect(await pair.write("target", "moving")).toBe("written");
    }, 60_000);

    /** Whose data it is, where, after everything opened: the log's word in short. */
    const log = (answer: boolean): Removal => ({ mayRemove: () => answer });
    const remove = (side: Side, goal: "removeFiles" | "removeRows", removal?: Removal) =>
      pair.reach(side, goal, "opened", 1, AbortSignal.timeout(WITHIN_MS), removal);
    const held = async () => ({
      source: [await pair.holds("source", "moving"), await pair.holds("source", "staying")],
      target: [await pair.holds("target", "moving"), await pair.holds("target", "staying")],
    });

    it("removes what is dormant when the log permits it, and nothing that it serves; then it refuses as before", async () => {
      await following();
      expect(await writes("source")).toEqual(["written", "written"]);
      await matched(1);
      await Promise.all([
        reach("source", "yield", "transferred", 1),
        reach("target", "activate", "transferred", 1),
      ]);
      await Promise.all([reach("source", "yield", "opened", 1), reach("target", "open", "opened", 1)]);
      const copied = pair.kind === "split";
      const whole = { source: [true, true], target: [true, copied] };
      expect(await held()).toEqual(whole);

      // Rule 10: without the log's permission nothing goes, however often it is asked.
      for (const goal of ["removeFiles", "removeRows"] as const)
        for (const removal of [undefined, log(false)])
          await remove("source", goal, removal).catch(({ code }: CleaveError) =>
            expect(code).toBe("REMOVAL_NOT_ALLOWED"),
          );
      await expect(remove("source", "removeRows", log(false))).rejects.toMatchObject({
        code: "REMOVAL_NOT_ALLOWED",
      });
      expect(await held()).toEqual(whole);

      // The Pod's own routes are the second look: the log permits all, and what is served here stays.
      await Promise.all([
        remove("source", "removeFiles", log(true)),
        remove("target", "removeFiles", log(true)),
      ]);
      await Promise.all([pair.restart("source"), pair.restart("target")]);
      for (let time = 0; time < 2; time++)
        await Promise.all([
          remove("source", "removeRows", log(true)),
          remove("target", "removeRows", log(true)),
        ]);
      expect(await held()).toEqual({ source: [false, true], target: [true, false] });
      expect(pair.status("source")).toMatchObject({ goal: "removeRows", reached: true });
      await Promise.all([pair.restart("source"), pair.restart("target")]);
      expect(await pair.write("source", "staying")).toBe("written");
      expect(await pair.write("target", "moving")).toBe("written");
    }, 60_000);

    it("releases what it made and nothing else, as often as it is asked", async () => {
      await following();
      await matched(1);
      for (let time = 0; time < 2; time++) {
        await reach("source", "release", "source", 1);
        await reach("target", "release", "source", 1);
        expect(await pair.isEmpty()).toBe(true);
        for (const side of ["source", "target"] as const) {
          const left = pair.status(side) ?? { goal: "release", reached: true, evidence: null };
          expect(left).toMatchObject({ goal: "release", reached: true, evidence: null });
        }
        expect(await writes("source")).toEqual(["written", "written"]);
        await Promise.all([pair.restart("source"), pair.restart("target")]);
      }
    }, 60_000);
  });
}
