/** What a disk does to repositories that were copied is found before they count as evidence, whenever it happens. */
import { afterEach, describe, expect, it } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import { DAMAGE } from "../../../../support/git/damage.ts";
import { git, mustGit } from "../../../../support/git/pod.ts";
import { GitReverseReplicationPods } from "../../../../support/git/reverse.ts";
import { GitSplit, type Side } from "../../../../support/git/split.ts";

let split: GitSplit;
afterEach(() => split?.remove());

const KINDS = Object.keys(DAMAGE);
const pathOf = (kind: string) => `red/${KINDS.indexOf(kind)}.git`;
const verified = () =>
  eventually(
    () => expect(split.status(split.target)).toMatchObject({ verified: true, problems: [] }),
    20_000,
  );

async function oneForEachKind(): Promise<void> {
  await Promise.all(KINDS.map((kind) => split.source.pod.repository(pathOf(kind))));
}

async function sound(side: Side): Promise<void> {
  for (const kind of KINDS) {
    const { code, stdout, stderr } = await git([
      `--git-dir=${side.pod.path(pathOf(kind))}`,
      "fsck",
      "--full",
    ]);
    expect(`${kind}: ${code} ${stdout}${stderr}`).toBe(`${kind}: 0 `);
  }
}

describe("a target", () => {
  it("between ready and the fence: nothing that a disk does is evidence", async () => {
    split = await GitSplit.create({ sweepSeconds: 60 });
    await oneForEachKind();
    await split.seeded();
    await verified();
    const expected = { items: KINDS.length, unread: 0, damaged: 0, last: null };
    await eventually(() => expect(split.status(split.target).scrub).toMatchObject(expected), 20_000);
    await Promise.all(KINDS.map((kind) => DAMAGE[kind]?.(split.target.pod.path(pathOf(kind)))));
    const [source] = await split.matched(1);
    // At any moment: what is said to be equal is sound.
    await eventually(() => expect(split.status(split.target).evidence?.digest).toBe(source), 20_000);
    await sound(split.target);
    expect(split.status(split.target).scrub?.damaged).toBeGreaterThanOrEqual(KINDS.length);
    expect(split.status(split.target).scrub?.last).toMatch(/^red\/\d\.git: ./);

    // After the marker: the word is taken back, and given again when it is true again.
    const kind = "a flipped bit in a pack";
    await DAMAGE[kind]?.(split.target.pod.path(pathOf(kind)));
    await eventually(() => expect(split.status(split.target).scrub?.damaged).toBeGreaterThan(KINDS.length));
    await eventually(async () => {
      expect(split.status(split.target).evidence?.digest).toBe(source);
      await sound(split.target);
    }, 20_000);
  });

  it("while following: damage is found by a look, said by name and mended; objects that git would not make today are sound", async () => {
    split = await GitSplit.create({ sweepSeconds: 0.3 });
    await oneForEachKind();
    const old = split.source.pod.path(pathOf("a missing repository"));
    const tree = await mustGit(["-C", old, "mktree"]);
    const text = `tree ${tree}\nauthor a<a@b> 1 +0000\ncommitter a<a@b> 1 +0000\n\nold\n`;
    const commit = await mustGit(["-C", old, "hash-object", "-t", "commit", "-w", "--stdin", "--literally"], {
      input: text,
    });
    await mustGit(["-C", old, "update-ref", "refs/heads/old", commit]);
    await split.seeded();
    await verified();
    const kind = "a loose object emptied, as after a power loss";
    await DAMAGE[kind]?.(split.target.pod.path(pathOf(kind)));
    await eventually(() => expect(split.status(split.target).scrub?.last).toContain(pathOf(kind)), 20_000);
    await verified();
    expect(await git([`--git-dir=${split.target.pod.path(pathOf(kind))}`, "fsck", "--full"])).toMatchObject({
      code: 0,
    });
  });
});

describe("a source", () => {
  it("is told before anything is copied which repository is damaged", async () => {
    split = await GitSplit.create();
    const kind = "a missing object";
    await split.source.pod.repository(pathOf(kind));
    await split.source.pod.repository("red/sound.git");
    await DAMAGE[kind]?.(split.source.pod.path(pathOf(kind)));
    const duty = split.duty(split.source, "prepare", "source");
    const found = await split.source.store.preflight(duty, "start", AbortSignal.timeout(20_000));
    const errors = found.filter(({ severity }) => severity === "error");
    for (const { code } of errors) expect(code).toBe("REPOSITORY_UNREADABLE");
    const messages = errors.map(({ message }) => message).join("\n");
    // In whose words depends on what the object was: git's of a ref, or those of a check of all objects.
    expect(messages).toContain(pathOf(kind));
    expect(messages).not.toContain("red/sound.git");
  });
});

describe("dormant repositories", () => {
  it("while they are kept: what a disk does is found, said and mended", async () => {
    const pods = await GitReverseReplicationPods.create({ sweepSeconds: 0.3 });
    split = pods.split;
    await oneForEachKind();
    await pods.opened();
    const flow = () => split.status(split.source).reverseReplication?.[split.target.podId];
    const level = () =>
      eventually(
        () => expect(flow()).toMatchObject({ lag: { amount: 0 }, verified: true, problem: null }),
        20_000,
      );
    await level();
    await Promise.all(KINDS.map((kind) => DAMAGE[kind]?.(split.source.pod.path(pathOf(kind)))));
    await eventually(() => sound(split.source), 30_000, 200);
    expect(flow()?.scrub?.damaged).toBeGreaterThan(0);
    await level();
  });
});
