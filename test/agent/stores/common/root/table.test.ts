/**
 * State of a root × when it is so: what vanished is a problem and no deletion, nobody proves equality with it, and all goes
 * on by itself when it is back. One set-up for each store and time, through which all states pass.
 */
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import {
  codesOf,
  type FilePods,
  filePods,
  KINDS,
  type Side,
  says,
} from "../../../../support/stores/file-pods.ts";
import { mayMount, ROOT_STATES, type RootState } from "../../../../support/stores/root-states.ts";

/** More than the bound lets go. */
const ITEMS = 12;
/** Those that differ in kind; `CLEAVE_ROOT_STATES=all` for the night. */
const USUAL = [
  "an empty folder in its place",
  "a copy of an earlier state, mark and all",
  "emptied, but for its mark",
];
const STATES = ROOT_STATES.filter(
  ({ name, needsMounts }) =>
    process.env["CLEAVE_ROOT_STATES"] === "all" ||
    USUAL.includes(name) ||
    (needsMounts && name.includes("part")),
);
const scratch = mkdtempSync(join(tmpdir(), "cleave-mounts-"));
const mountable = await mayMount(scratch);
afterAll(() => rm(scratch, { recursive: true }));

let left: (() => Promise<void>) | null = null;
afterEach(async () => {
  await left?.();
  left = null;
});

async function entered(state: RootState, root: string): Promise<void> {
  await state.enter(root);
  left = () => state.leave(root);
}
async function back(): Promise<void> {
  await left?.();
  left = null;
}

const quiet = (pods: FilePods, side: Side) =>
  eventually(() => expect(codesOf(pods.status(side).problems)).toEqual([]), 20_000);

describe.each(KINDS)("%s, following", (kind) => {
  let pods: FilePods;
  beforeAll(async () => {
    pods = await filePods(kind, ITEMS);
    await pods.reach("source", "prepare", "source");
    await pods.reach("target", "seed", "source");
    await pods.reach("source", "serve", "source");
    await pods.reach("target", "follow", "source");
  }, 60_000);
  afterAll(() => pods.remove());

  for (const state of STATES)
    it.skipIf(state.needsMounts && !mountable)(
      `the source's root is ${state.name}`,
      async () => {
        await entered(state, pods.root.source);
        await says(pods, "source", state.code);
        expect(codesOf(await pods.preflight("source", "fence"))).toContain(state.code);
        await expect(pods.reach("source", "fence", "fenced")).rejects.toMatchObject({
          code: expect.stringMatching(/^(ROOT_|OBJECT_UNREADABLE|REPOSITORY_UNREADABLE)/),
        });
        expect(await pods.items("target")).toHaveLength(ITEMS);
        await back();
        await pods.reach("source", "serve", "source");
        await quiet(pods, "source");
        expect(await pods.items("target")).toHaveLength(ITEMS);
      },
      60_000,
    );

  // What a target has lost it copies again: that is no problem of a root, and nobody's loss.
  for (const state of STATES.filter(({ code }) => code !== "ROOT_LOSSES"))
    it.skipIf(state.needsMounts && !mountable)(
      `the target's root is ${state.name}, and the fence goes up`,
      async () => {
        await entered(state, pods.root.target);
        await Promise.all([
          pods.reach("source", "fence", "fenced"),
          expect(pods.reach("target", "match", "fenced")).rejects.toMatchObject({ code: state.code }),
        ]);
        expect(pods.status("target").evidence).toBeNull();
        await says(pods, "target", state.code);
        expect(codesOf(await pods.preflight("target", "fence"))).toContain(state.code);
        await back();
        await pods.reach("source", "serve", "source");
        await pods.reach("target", "follow", "source");
        await quiet(pods, "target");
        expect(await pods.items("target")).toHaveLength(ITEMS);
      },
      60_000,
    );
});

describe.each(KINDS)("%s, retaining", (kind) => {
  let pods: FilePods;
  beforeAll(async () => {
    pods = await filePods(kind, ITEMS);
    await pods.opened();
    await pods.level();
  }, 60_000);
  afterAll(() => pods.remove());

  for (const state of STATES)
    it.skipIf(state.needsMounts && !mountable)(
      `the new Pod's root is ${state.name}`,
      async () => {
        await entered(state, pods.root.target);
        // Git names each repository that it has lost, objects the whole.
        await eventually(() => expect(pods.flow()).toMatchObject({ problem: expect.anything() }), 20_000);
        if (state.code !== "ROOT_LOSSES") {
          await says(pods, "target", state.code);
          await eventually(() => expect(pods.flow()?.problem?.code).toBe(state.code), 20_000);
          expect(codesOf(await pods.preflight("target", "start", "rollback"))).toEqual([state.code]);
          expect(codesOf(await pods.preflight("target", "removal"))).toEqual([state.code]);
        }
        expect(await pods.items("source")).toHaveLength(ITEMS);
        await back();
        await pods.level();
        expect(await pods.items("source")).toHaveLength(ITEMS);
      },
      60_000,
    );
});
