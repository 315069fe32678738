/** Dormant rows are removed after a move, on real servers: these and no others, and only as long as both say so. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Finding } from "../../../../../protocol/evidence.ts";
import type { MigrationId, PodId } from "../../../../../protocol/ids.ts";
import type { Duty, Removal } from "../../../../../protocol/ports/store.ts";
import { FROM, type MovePods, TO } from "../../../../support/postgres/move-pods.ts";
import {
  asApply,
  contents,
  counts,
  leave,
  OPENED,
  removalPods,
  YES,
} from "../../../../support/postgres/removal-pods.ts";

let pods: MovePods;
beforeEach(async () => {
  pods = await removalPods();
}, 60_000);
afterEach(() => pods.remove(), 60_000);

function removalFindings(podId: PodId, duty: Duty): Promise<Finding[]> {
  return pods.store(podId).preflight(duty, "removal", AbortSignal.timeout(60_000));
}

const codesOf = (findings: readonly Finding[], severity: Finding["severity"]) =>
  findings.filter((one) => one.severity === severity).map(({ code }) => code);

describe("after a move", () => {
  /** Whether the organization could come back: the checks of a move the other way. */
  async function reverseReplication(): Promise<string[]> {
    const duty: Duty = {
      ...pods.duty(TO, "seed"),
      migrationId: "move-back" as MigrationId,
      podId: FROM,
      sourcePodId: TO,
      targetPodIds: [FROM],
      assignments: new Map([...pods.duty(TO, "seed").assignments.keys()].map((id) => [id, FROM])),
    };
    const store = pods.storeAt(FROM, pods.source);
    try {
      return codesOf(await store.preflight(duty, "start", AbortSignal.timeout(60_000)), "error");
    } finally {
      await store.close();
    }
  }

  it("nothing of the organization is left on the source, and all of everybody else's", async () => {
    await pods.follow();
    await pods.fence(1);
    await pods.transfer(1);
    const neighbours = await contents(pods.source, "<> 2");
    const moved = await contents(pods.target, "= 2");
    const dormant = await counts(pods.source, "= 2");
    expect(await reverseReplication()).toContain("TARGET_HOLDS_ORGANIZATION");

    const findings = await removalFindings(
      FROM,
      pods.duty(FROM, "removeRows", { epoch: 1, phase: "opened" }),
    );
    expect(codesOf(findings, "error")).toEqual([]);
    expect(findings[0]).toMatchObject({
      severity: "info",
      message: expect.stringMatching(
        new RegExp(`^${dormant} rows in 8 tables, about \\d+ (kB|MB), of 1 organization would be removed$`),
      ),
    });
    for (const podId of [FROM, TO]) await pods.reach(podId, "removeFiles", OPENED);
    expect(await counts(pods.source, "= 2")).toBe(dormant);

    await pods.reach(FROM, "removeRows", OPENED);
    expect(pods.status(FROM)).toMatchObject({
      goal: "removeRows",
      reached: true,
      problems: [],
      progress: { done: dormant, total: dormant, unit: "rows" },
    });
    await pods.reach(TO, "removeRows", OPENED);
    expect(await counts(pods.source, "= 2")).toBe(0);
    expect(await contents(pods.source, "<> 2")).toEqual(neighbours);
    expect(await contents(pods.target, "= 2")).toEqual(moved);

    for (const cluster of [pods.source, pods.target]) {
      expect(await cluster.query("SELECT pubname FROM pg_publication")).toEqual([]);
      expect(await cluster.query("SELECT slot_name FROM pg_replication_slots")).toEqual([]);
      expect(await cluster.query("SELECT roname FROM pg_replication_origin")).toEqual([]);
      expect(await cluster.query("SELECT FROM cleave.copied")).toEqual([]);
      expect(await cluster.query("SELECT FROM cleave.touched")).toEqual([]);
      expect(await cluster.query("SELECT organization_id, pod_id, migration_id FROM cleave.route")).toEqual([
        { organization_id: "2", pod_id: TO, migration_id: null },
      ]);
    }
    await expect(pods.source.query("INSERT INTO projects VALUES (100, 2)")).rejects.toMatchObject({
      code: "CL421",
      detail: TO,
    });
    await pods.source.query("INSERT INTO projects VALUES (101, 1)");
    await pods.target.query("INSERT INTO projects VALUES (100, 2)");
    expect(await reverseReplication()).not.toContain("TARGET_HOLDS_ORGANIZATION");

    // As after a restart between the last step and the log.
    for (const podId of [FROM, TO]) {
      await pods.restart(podId);
      await pods.reach(podId, "removeRows", OPENED);
    }
    expect(await removalFindings(FROM, pods.duty(FROM, "removeRows", OPENED))).toEqual([
      expect.objectContaining({ severity: "info" }),
    ]);
  }, 120_000);

  it("a target that gave its share back loses what it had copied, and nothing of its own", async () => {
    await pods.target.query(
      "INSERT INTO orgs VALUES (50, 'resident'); INSERT INTO projects VALUES (5000, 50)",
    );
    await pods.follow();
    await pods.fence(1);
    await pods.reach(FROM, "yield", { epoch: 1, phase: "transferred" });
    await pods.reach(TO, "activate", { epoch: 1, phase: "transferred" });
    const before = await contents(pods.source, "IS NOT NULL");
    const resident = await contents(pods.target, "<> 2");
    const revoked = { epoch: 1, phase: "source", removal: YES } as const;
    for (const goal of ["removeFiles", "removeRows", "removeFiles"] as const)
      for (const podId of [FROM, TO]) await pods.reach(podId, goal, revoked);
    expect(await counts(pods.target, "= 2")).toBe(0);
    expect(await contents(pods.target, "<> 2")).toEqual(resident);
    expect(await contents(pods.source, "IS NOT NULL")).toEqual(before);
    await pods.source.query("INSERT INTO projects VALUES (100, 2)");
  }, 120_000);
});

describe("nothing is removed", () => {
  let before: number;
  /** `besides`: what the source's own look at the guard may say as well, sooner or later. */
  const untouched = async (duty: Duty, code: string, message: RegExp, besides?: string) => {
    before = await counts(pods.source);
    await expect(pods.store(FROM).reach(duty, AbortSignal.timeout(60_000))).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
    expect(await counts(pods.source)).toBe(before);
    const { reached, problems } = pods.status(FROM);
    expect(reached).toBe(false);
    expect(problems.filter((problem) => problem.code !== besides)).toMatchObject([{ code }]);
  };

  it("unless the log permits it, for every organization", async () => {
    pods.organizations = ["2", "3"];
    await leave(pods);
    await untouched(
      pods.duty(FROM, "removeRows", { epoch: 1, phase: "opened" }),
      "REMOVAL_NOT_ALLOWED",
      /retention/,
    );
    const removal: Removal = { mayRemove: (id) => id !== "3" };
    await untouched(
      pods.duty(FROM, "removeRows", { ...OPENED, removal }),
      "REMOVAL_NOT_ALLOWED",
      /organization 3/,
    );
  }, 60_000);

  it("while another migration has staged the organization here", async () => {
    await leave(pods);
    await pods.source.query("UPDATE cleave.route SET migration_id = 'another' WHERE organization_id = '2'");
    const duty = pods.duty(FROM, "removeRows", OPENED);
    expect(codesOf(await removalFindings(FROM, duty), "error")).toEqual(["REMOVAL_NOT_ALLOWED"]);
    await untouched(duty, "REMOVAL_NOT_ALLOWED", /organization 2: it is staged here for .* another/);
  }, 60_000);

  it("of an organization that this Pod's own routes say is its own, whatever the log says", async () => {
    pods.organizations = ["1", "2"];
    await leave(pods);
    await pods.source.query("DELETE FROM cleave.route WHERE organization_id = '1'");
    await untouched(
      pods.duty(FROM, "removeRows", OPENED),
      "REMOVAL_NOT_ALLOWED",
      /1: this Pod is authoritative/,
    );
  }, 60_000);

  it("of a share that is not open", async () => {
    await pods.reach(FROM, "prepare");
    await pods.reach(FROM, "yield", { epoch: 1, phase: "transferred" });
    const duty = pods.duty(FROM, "removeRows", { epoch: 1, phase: "transferred", removal: YES });
    await untouched(duty, "REMOVAL_NOT_ALLOWED", /transferred/);
  }, 60_000);

  it("while rows that stay refer to rows that would go", async () => {
    await leave(pods);
    await pods.source.query(
      "ALTER TABLE users DISABLE TRIGGER USER; UPDATE users SET home_id = 4 WHERE id = 7",
    );
    await pods.source.query("UPDATE projects SET fork_of = 1 WHERE id = 15");
    const duty = pods.duty(FROM, "removeRows", OPENED);
    const message =
      /1 rows of public\.projects stay and refer to rows of public\.projects that would be removed \(projects_fork_of_fkey\), for example with key \(15\); 1 rows of public\.users .* \(users_home_id_fkey\), for example with key \(7\)/;
    expect(codesOf(await removalFindings(FROM, duty), "error")).toEqual([
      "REMOVAL_REFERENCED",
      "REMOVAL_REFERENCED",
    ]);
    await untouched(duty, "REMOVAL_REFERENCED", message);
  }, 60_000);

  it("where the two ways to tell an owner disagree about a row", async () => {
    await leave(pods);
    const duty = pods.duty(FROM, "removeRows", OPENED);
    // Selected as organization 2, and told by the guard to be one that is written differently.
    await pods.source.query("ALTER TABLE budgets ALTER COLUMN org TYPE numeric");
    await pods.source.query("SET session_replication_role = replica; INSERT INTO budgets VALUES (9, 3)");
    await asApply(pods, "UPDATE budgets SET org = 2.0 WHERE id = 9");
    const disagree = /1 row of public\.budgets, .* key \(9\), .* gives to 2\.0/;
    await untouched(duty, "REMOVAL_DISAGREES", disagree, "OWNERSHIP_RULE_INVALID");
    await asApply(pods, "DELETE FROM budgets WHERE id = 9; UPDATE projects SET code = 'code 1' WHERE id = 2");
    expect(codesOf(await removalFindings(FROM, duty), "error")).toContain("REMOVAL_DISAGREES");
    await untouched(
      duty,
      "REMOVAL_DISAGREES",
      /public\.projects with \(code\) = \(code 1\) belong to different/,
      "OWNERSHIP_RULE_INVALID",
    );
  }, 60_000);

  it("that a trigger keeps", async () => {
    await leave(pods);
    await pods.source.query(
      `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
       CREATE TRIGGER keep BEFORE DELETE ON comments FOR EACH ROW EXECUTE FUNCTION keep();
       ALTER TABLE comments ENABLE ALWAYS TRIGGER keep`,
    );
    // Notes refer to the same parents and may go before; comments do not, and so nothing above them does.
    const duty = pods.duty(FROM, "removeRows", OPENED);
    await expect(pods.store(FROM).reach(duty, AbortSignal.timeout(60_000))).rejects.toMatchObject({
      code: "CHANGE_NOT_APPLICABLE",
      message: expect.stringMatching(/public\.comments/),
    });
    expect(await pods.source.query("SELECT FROM issues WHERE project_id = 1")).toHaveLength(50);
  }, 60_000);
});
