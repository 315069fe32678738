/** What the database names against what is there: in the checks before a fence, and at the fence. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NamedItems } from "../../../../../agent/stores/common/verification/named.ts";
import { codesOf, type FilePods, filePods, KINDS } from "../../../../support/stores/file-pods.ts";

const names = Array.from({ length: 14 }, (_, number) => `red/${number}.git`);

function of(there: readonly string[], missing: "warn" | "refuse" = "warn", acceptMissing: string[] = []) {
  return new NamedItems({
    store: "git",
    config: { missing, acceptMissing },
    there: async () => (name) => there.includes(name),
    ownerLookup: {
      named: async (_store, _marker, visit) => {
        visit(names.map((name) => ({ name, organization: "red" })));
        return true;
      },
    },
  });
}

it("missing ones are named, the first ten and how many more; the configuration says how bad that is", async () => {
  expect(await of(names).findings()).toEqual([]);
  const [found] = await of(["red/0.git"]).findings();
  expect(found).toMatchObject({ code: "REPOSITORY_MISSING", severity: "warning" });
  expect(found?.message).toContain(
    'of 14 repositories that the database names, 13 repositories ("red/1.git"',
  );
  expect(found?.message).toContain('"red/10.git" and 3 more');
  expect(await of(["red/0.git"], "refuse").findings()).toMatchObject([{ severity: "error" }]);
});

it("those that are accepted by name are not asked for", async () => {
  expect(await of(names.slice(0, 10), "refuse", ["red/1*.git"]).findings()).toEqual([]);
});

it("when a Pod has none, it is another disk than the database's", async () => {
  expect(await of(["blue/1.git"]).findings()).toMatchObject([{ severity: "error" }]);
  // Of one organization it may be all that there is of it.
  expect(await of([]).findings(({ name }) => name === "red/1.git")).toMatchObject([{ severity: "warning" }]);
});

describe.each(KINDS)("%s", (kind) => {
  let pods: FilePods;
  const code = kind === "git" ? "REPOSITORY_MISSING" : "OBJECT_MISSING";
  beforeAll(async () => {
    pods = await filePods(kind, 3);
    await pods.reach("source", "prepare", "source");
    await pods.reach("target", "seed", "source");
    await pods.reach("source", "serve", "source");
    await pods.reach("target", "follow", "source");
  }, 60_000);
  afterAll(() => pods.remove());
  const match = () =>
    Promise.all([pods.reach("source", "fence", "fenced"), pods.reach("target", "match", "fenced")]);
  const lower = async () => {
    await pods.reach("source", "serve", "source");
    await pods.reach("target", "follow", "source");
  };

  it("what a target's database names and nobody has is named at the fence, and there is no evidence", async () => {
    const [item] = await pods.items("target");
    const gone = `${item}`.replace("item 0", "item gone");
    // Of an organization that stays on the source it is no matter of this fence.
    pods.names("target", [`${item}`, `${item}`.replace("red", "green")]);
    expect(codesOf(await pods.preflight("target", "fence"))).not.toContain(code);
    await match();
    const { evidence } = pods.status("target");
    expect(evidence?.digest).toBe(pods.status("source").evidence?.digest);
    await lower();

    pods.names("target", [`${item}`, gone]);
    const refused = expect(pods.reach("target", "match", "fenced")).rejects.toMatchObject({
      code,
      message: expect.stringContaining(JSON.stringify(gone)),
    });
    await pods.reach("source", "fence", "fenced");
    await refused;
    expect(pods.status("target").evidence).toBeNull();
    await lower();

    // Once a check has named it, an operator knows: the source lacks it as well, or the digests would differ.
    const found = (await pods.preflight("target", "fence")).filter((one) => one.code === code);
    expect(found).toMatchObject([{ severity: "warning", message: expect.stringContaining(gone) }]);
    await match();
    expect(pods.status("target").evidence?.digest).toBe(evidence?.digest);
    await lower();
  }, 60_000);

  it("the source's checks name what it lacks", async () => {
    const items = await pods.items("source");
    pods.names("source", [...items, `${items[0]}`.replace("item 0", "item gone")]);
    for (const stage of ["start", "fence"] as const)
      expect(codesOf(await pods.preflight("source", stage))).toContain(code);
    pods.names("source", items);
    for (const stage of ["start", "fence"] as const)
      expect(codesOf(await pods.preflight("source", stage))).not.toContain(code);
  }, 60_000);
});
