/** An organization goes back to the copy that a split left behind, on real servers. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Removal } from "../../../../../protocol/ports/store.ts";
import { eventually } from "../../../../support/eventually.ts";
import { BackPods, TARGET } from "../../../../support/postgres/back-pods.ts";
import { MIGRATION, never, ROLLBACK, reachAtLast, SOURCE } from "../../../../support/postgres/pods.ts";

const YES: Removal = { mayRemove: () => true };

let back: BackPods;

beforeEach(async () => {
  back = await BackPods.assemble();
  await back.split();
});
afterEach(() => back.remove());

const write = (organization: number) =>
  `INSERT INTO notes (organization_id, body) VALUES (${organization}, 'written')`;

describe("a rollback", () => {
  it("brings an organization back with everything that was acknowledged, and the others go on flowing", async () => {
    const there = await back.client("target");
    const here = await back.client("source");
    const live = (async () => {
      for (let n = 0; ; n++)
        try {
          await there.query(write(1));
        } catch (error) {
          return [n, (error as { code?: string }).code] as const;
        }
    })();
    await back.rollBackUntil("match");
    const [acknowledged, refused] = await live;
    expect(refused).toBe("CL503");
    const [ours, theirs] = back.digests();
    expect(ours).toBeDefined();
    expect(theirs).toBe(ours);
    await there.query(write(2));
    await back.activateBack(2);
    expect(back.reverseReplication.lag.amount).toBeNull();
    await expect(here.query(write(1))).rejects.toMatchObject({ code: "CL503" });
    await expect(there.query(write(1))).rejects.toMatchObject({ code: "CL421", detail: SOURCE });
    await back.openBack(2);
    expect(await back.rows("source", 1)).toEqual(await back.rows("target", 1));
    const { rows } = await here.query(
      "SELECT count(*)::int AS n FROM notes WHERE organization_id = 1 AND body = 'written'",
    );
    expect(rows).toEqual([{ n: acknowledged }]);
    await here.query(write(1));
    await expect(there.query(write(1))).rejects.toMatchObject({ code: "CL421", detail: SOURCE });
    await expect(here.query(write(2))).rejects.toMatchObject({ code: "CL421", detail: TARGET });
    await there.query(write(2));
    await back.arrived(2);
    await back.level();
    // What was asked for before it opened may be done after that: as a restarted agent does that begins with its old fold.
    const late = { epoch: 2, phase: "transferred" } as const;
    await back.source.reach(back.pods.rollbackDuty(SOURCE, "activate", late), never).catch(() => undefined);
    await there.query(write(2));
    await back.arrived(2);
    await back.level();
    // The rollback ends first, and then the split: each removes what it left, and nothing else.
    const kept = await back.rows("source", 1);
    const done = { epoch: 2, phase: "opened", removal: YES } as const;
    for (const goal of ["removeFiles", "removeRows"] as const) {
      await back.there.reach(back.pods.rollbackDuty(TARGET, goal, done), never);
      await back.source.reach(back.pods.rollbackDuty(SOURCE, goal, done), never);
    }
    await back.level();
    expect(await back.rows("source", 1)).toEqual(kept);
    expect((await back.rows("target", 1))["notes"]).toEqual([]);
    expect((await back.rows("target", 2))["notes"]).not.toEqual([]);
    const over = {
      epoch: 1,
      phase: "opened",
      removal: YES,
      reverseReplication: [],
      rollback: "opened",
    } as const;
    for (const goal of ["removeFiles", "removeRows"] as const) {
      await back.source.reach(back.pods.duty(SOURCE, goal, over), never);
      await back.there.reach(back.pods.duty(TARGET, goal, over), never);
    }
    expect(await back.rows("source", 1)).toEqual(kept);
    expect((await back.rows("source", 2))["notes"]).toEqual([]);
    await expect(there.query(write(1))).rejects.toMatchObject({ code: "CL421", detail: SOURCE });
    await expect(here.query(write(2))).rejects.toMatchObject({ code: "CL421", detail: TARGET });
    await Promise.all([here.query(write(1)), there.query(write(2))]);
  });

  it("carries nothing back that was written after it, also by an agent that was paused", async () => {
    await back.level();
    const paused = back.source;
    back.source = back.pods.store(SOURCE);
    await back.source.reach(back.pods.duty(SOURCE, "yield", { epoch: 1, phase: "opened" }), never);
    // Two agents of one Pod: of one slot only one at a time can be served, and the paused one is it.
    await paused.close();
    await back.rollBackUntil("open");
    const stale = back.pods.store(SOURCE);
    await stale.reach(back.pods.duty(SOURCE, "yield", { epoch: 1, phase: "opened" }), never);
    await back.source.close();
    const there = await back.client("target");
    const here = await back.client("source");
    await there.query(write(2));
    const before = await back.rows("source", 2);
    await eventually(() => {
      expect(stale.status(MIGRATION)?.reverseReplication?.[TARGET]?.problem).toMatchObject({
        code: "COMMAND_NOT_POSSIBLE",
        message: expect.stringMatching(/do not flow back/),
      });
    }, 15_000);
    expect(await back.rows("source", 2)).toEqual(before);
    await stale.close();
    await here.query(write(1));
  });

  it.each(["follow", "match"] as const)(
    "leaves everything as it was when it is aborted: from %s",
    async (goal) => {
      await back.level();
      const before = await back.catalogs();
      await back.rollBackUntil(goal);
      const epoch = goal === "match" ? { epoch: 2 } : {};
      await Promise.all([
        back.there.reach(back.pods.rollbackDuty(TARGET, "release", epoch), never),
        back.source.reach(back.pods.rollbackDuty(SOURCE, "release", epoch), never),
      ]);
      expect(await back.catalogs()).toEqual(before);
      const there = await back.client("target");
      await there.query(write(1));
      await back.arrived(1);
      await back.level();
      // Again, for aborting is idempotent; and again from the beginning.
      await back.there.reach(back.pods.rollbackDuty(TARGET, "release", epoch), never);
      await back.rollBackUntil("open");
      expect(await back.rows("source", 1)).toEqual(await back.rows("target", 1));
    },
  );

  it("goes on after both agents were killed at the fence, after the match and after the transfer", async () => {
    await back.rollBackUntil("match");
    const digests = back.digests();
    const restart = async () => {
      await Promise.all([back.source.close(), back.there.close()]);
      back.source = back.pods.store(SOURCE);
      back.there = back.pods.store(TARGET);
    };
    await restart();
    const opened = { epoch: 1, phase: "opened" } as const;
    await back.there.reach(back.pods.duty(TARGET, "open", opened), never);
    await Promise.all([back.source.reach(back.pods.duty(SOURCE, "yield", opened), never), back.fenceBack(2)]);
    expect(back.digests()).toEqual(digests);
    await restart();
    await back.activateBack(2);
    await restart();
    await back.activateBack(2);
    await back.openBack(2);
    expect(await back.rows("source", 1)).toEqual(await back.rows("target", 1));
    const there = await back.client("target");
    await there.query(write(2));
    await back.arrived(2);
  });

  it("is refused by a copy that differs, and by a new fence the digest of the old one is not", async () => {
    await back.rollBackUntil("follow");
    const here = await back.client("source");
    const there = await back.client("target");
    await back.source.close();
    back.source = back.pods.store(SOURCE);
    // Lost on the way, as by a defect of the stream: written by what applies it, past everything that notes.
    await there.query("UPDATE notes SET body = 'the last word' WHERE id = 10");
    await here.query(
      "SET session_replication_role = replica; SET SESSION AUTHORIZATION cleave_apply; DELETE FROM notes WHERE id = 10",
    );
    await Promise.all([
      back.source.reach(back.pods.duty(SOURCE, "yield", { epoch: 1, phase: "opened" }), never),
      back.there.reach(back.pods.rollbackDuty(TARGET, "fence", { epoch: 2, phase: "fenced" }), never),
    ]);
    const matching = AbortSignal.timeout(10_000);
    const matched = await back.source
      .reach(back.pods.rollbackDuty(SOURCE, "match", { epoch: 2, phase: "fenced" }), matching)
      .then(
        () => true,
        () => false,
      );
    if (matched) expect(back.digests()[0]).not.toBe(back.digests()[1]);
    const first = back.digests()[0];
    await Promise.all([
      back.there.reach(back.pods.rollbackDuty(TARGET, "serve", { epoch: 2 }), never),
      back.source.reach(back.pods.rollbackDuty(SOURCE, "follow", { epoch: 2 }), never),
    ]);
    await there.query(write(1));
    await back.there.reach(back.pods.rollbackDuty(TARGET, "fence", { epoch: 3, phase: "fenced" }), never);
    expect(back.digests()[0]).not.toBe(first);
  });

  it("is undone when the share went back: the target serves again, and everything flows as before", async () => {
    await back.rollBackUntil("activate");
    const revoked = { epoch: 1, phase: "opened", rollback: "source" } as const;
    await back.there.reach(back.pods.rollbackDuty(TARGET, "yield", { epoch: 2, phase: "source" }), never);
    await back.source.reach(back.pods.duty(SOURCE, "yield", revoked), never);
    const there = await back.client("target");
    const here = await back.client("source");
    await there.query(write(1));
    await back.arrived(1);
    await back.level();
    await expect(here.query(write(1))).rejects.toMatchObject({ code: "CL421", detail: TARGET });
    const done = { epoch: 2, phase: "source", removal: YES } as const;
    for (const goal of ["removeFiles", "removeRows"] as const) {
      await back.there.reach(back.pods.rollbackDuty(TARGET, goal, done), never);
      await back.source.reach(back.pods.rollbackDuty(SOURCE, goal, done), never);
    }
    for (const db of [there, here])
      expect((await db.query("SELECT FROM cleave.route WHERE migration_id <> 'split-1'")).rowCount).toBe(0);
    await there.query(write(1));
    await back.arrived(1);
  });

  it("takes over without evidence when the Pod is lost, which refuses when it comes back", async () => {
    await back.level();
    const there = await back.client("target");
    const opened = { epoch: 2, phase: "opened", forced: true } as const;
    const transferred = { ...opened, phase: "transferred" } as const;
    await reachAtLast(back.source, back.pods.rollbackDuty(SOURCE, "activate", transferred));
    await back.source.reach(back.pods.rollbackDuty(SOURCE, "open", opened), never);
    await back.source.reach(
      back.pods.duty(SOURCE, "yield", { epoch: 1, phase: "opened", rollback: "opened" }),
      never,
    );
    const here = await back.client("source");
    await here.query(write(1));
    await there.query("BEGIN");
    await there.query(write(1));
    await back.there.reach(back.pods.rollbackDuty(TARGET, "yield", opened), never);
    await expect(there.query("COMMIT")).rejects.toThrow(/terminat|connection/i);
    const again = await back.client("target");
    await expect(again.query(write(1))).rejects.toMatchObject({ code: "CL421", detail: SOURCE });
    await again.query(write(2));
    expect(back.source.status(ROLLBACK)?.reached).toBe(true);
  });
});
