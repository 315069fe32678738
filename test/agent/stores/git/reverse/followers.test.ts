/** After a split: what the new Pod changes comes into the copies that the source keeps. */
import { access, appendFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { OrganizationId } from "../../../../../protocol/ids.ts";
import { eventually } from "../../../../support/eventually.ts";
import { git, mustGit } from "../../../../support/git/pod.ts";
import { GitReverseReplicationPods } from "../../../../support/git/reverse.ts";
import { removeLive } from "../../../../support/remove-live.ts";

let pods: GitReverseReplicationPods;
beforeEach(async () => {
  pods = await GitReverseReplicationPods.create();
  await pods.source.pod.repository("red/one.git");
  await pods.source.pod.repository("red/two.git");
  await pods.source.pod.repository("blue/one.git");
});
afterEach(() => pods.remove());

const here = (path: string) => pods.source.pod.path(path);
const there = (path: string) => pods.target.pod.path(path);
const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );
/** All that the new Pod answers to a question for what flows back. */
const told = () =>
  fetch(`${pods.target.url}/git/changes?migration=split-1`, {
    headers: { authorization: "Bearer a token of enough characters" },
  });
const refs = async (path: string) => [await pods.source.pod.refs(path), await pods.target.pod.refs(path)];

it("refs, HEAD, config, hooks, attributes, new and deleted repositories arrive; neighbours stay as they are", async () => {
  const neighbour = await pods.source.pod.refs("blue/one.git");
  await pods.opened();
  // The very first write, before anything on the new Pod watches its repositories.
  await mustGit(["-C", there("red/one.git"), "update-ref", "refs/heads/first", "refs/heads/main"]);
  await mustGit(["-C", there("red/one.git"), "symbolic-ref", "HEAD", "refs/heads/first"]);
  await mustGit(["-C", there("red/one.git"), "config", "gc.auto", "7"]);
  await writeFile(join(there("red/one.git"), "hooks", "post-receive"), "#!/bin/sh\n", { mode: 0o755 });
  await mkdir(join(there("red/one.git"), "info"), { recursive: true });
  await writeFile(join(there("red/one.git"), "info", "attributes"), "*.bin binary\n");
  await pods.target.pod.repository("red/new/three.git");
  await removeLive(there("red/two.git"));
  await eventually(async () => {
    const [own, other] = await refs("red/one.git");
    expect(own).toBe(other);
    expect(own).toContain("refs/heads/first");
    expect(await exists(here("red/two.git"))).toBe(false);
    expect(await pods.source.pod.refs("red/new/three.git")).toBe(
      await pods.target.pod.refs("red/new/three.git"),
    );
    expect(await mustGit(["-C", here("red/one.git"), "config", "gc.auto"])).toBe("7");
  }, 20_000);
  await pods.level();
  expect(await exists(join(here("red/one.git"), "hooks", "post-receive"))).toBe(true);
  expect(await exists(join(here("red/one.git"), "info", "attributes"))).toBe(true);
  expect(await pods.source.pod.refs("blue/one.git")).toBe(neighbour);

  // A branch that HEAD names, and a new HEAD, into a copy whose HEAD is locked.
  await mustGit(["-C", there("red/one.git"), "update-ref", "-d", "refs/heads/main"]);
  await mustGit(["-C", there("red/one.git"), "update-ref", "refs/heads/second", "refs/heads/first"]);
  await mustGit(["-C", there("red/one.git"), "symbolic-ref", "HEAD", "refs/heads/second"]);
  await eventually(async () => {
    const [own, other] = await refs("red/one.git");
    expect(own).toBe(other);
    expect(own).toContain("refs/heads/second");
  }, 10_000);
  await pods.level();

  // Dormant is dormant: neither a ref nor HEAD takes a writer, and blue goes on.
  const write = ["update-ref", "refs/heads/x", "refs/heads/second"];
  expect((await git(["-C", here("red/one.git"), ...write])).stderr).toContain("pod-100 is authoritative");
  expect((await git(["-C", here("red/one.git"), "symbolic-ref", "HEAD", "refs/heads/x"])).code).not.toBe(0);
  await mustGit(["-C", here("blue/one.git"), "update-ref", "refs/heads/x", "refs/heads/main"]);
}, 60_000);

it("the first write of all is not missed, whoever looks when: no sweep comes to help", async () => {
  await pods.remove();
  pods = await GitReverseReplicationPods.create({ sweepSeconds: 3_600 });
  await pods.source.pod.repository("red/one.git");
  await pods.opened();
  await mustGit(["-C", there("red/one.git"), "update-ref", "refs/heads/first", "refs/heads/main"]);
  await eventually(async () => {
    expect(await pods.source.pod.refs("red/one.git")).toContain("refs/heads/first");
  }, 20_000);
  await pods.level();
}, 60_000);

it("what is damaged in the dormant copy is mended; what the new Pod cannot read is named, and its copy kept", async () => {
  await pods.opened();
  await pods.level();
  const anybody = ["-c", "core.hooksPath=/dev/null"];
  await mustGit([...anybody, "-C", here("red/one.git"), "update-ref", "refs/heads/wrong", "refs/heads/main"]);
  await appendFile(join(here("red/two.git"), "config"), "[other]\n\tvalue = 1\n");
  await eventually(async () => {
    expect(await pods.source.pod.refs("red/one.git")).toBe(await pods.target.pod.refs("red/one.git"));
    expect((await git(["-C", here("red/two.git"), "config", "other.value"])).stdout).toBe("");
  }, 20_000);
  await pods.level();

  const before = await pods.source.pod.refs("red/two.git");
  await writeFile(join(there("red/two.git"), "HEAD"), "nonsense");
  await eventually(() => {
    expect(pods.flow?.problem).toMatchObject({ code: "REPOSITORY_UNREADABLE" });
    expect(pods.flow?.problem?.message).toContain("red/two.git");
    expect(pods.flow?.verified).toBe(false);
  }, 20_000);
  expect(await pods.source.pod.refs("red/two.git")).toBe(before);
}, 60_000);

it("deletions that nobody heard of are found after a restart of either, by ownership alone", async () => {
  await pods.opened();
  await pods.level();
  // On the source a neighbour's repository that the new Pod does not have, and one of the new Pod's own.
  await pods.source.pod.repository("blue/two.git");
  const { port } = pods.source.server;
  await pods.split.stop(pods.source);
  await removeLive(there("red/two.git"));
  await pods.target.pod.repository("red/later.git");
  await pods.split.start(pods.source, port);
  await pods.reach(pods.source, "yield", "opened");
  await eventually(async () => {
    expect(await exists(here("red/two.git"))).toBe(false);
    expect(await exists(here("red/later.git"))).toBe(true);
  }, 20_000);
  expect([await exists(here("red/one.git")), await exists(here("blue/two.git"))]).toEqual([true, true]);
  await pods.level();

  const target = pods.target.server.port;
  await pods.split.stop(pods.target);
  await eventually(() => expect(pods.flow?.lag.amount).toBeNull());
  await removeLive(there("red/later.git"));
  await pods.split.start(pods.target, target);
  await pods.reach(pods.target, "open", "opened");
  await mustGit(["-C", there("red/one.git"), "update-ref", "refs/heads/x", "refs/heads/main"]);
  await eventually(async () => {
    expect(await exists(here("red/later.git"))).toBe(false);
    expect(await pods.source.pod.refs("red/one.git")).toContain("refs/heads/x");
  }, 20_000);
  expect([await exists(here("red/one.git")), await exists(here("blue/two.git"))]).toEqual([true, true]);
  await pods.level();
}, 60_000);

it("a neighbour's repository in the same place is never touched, and named", async () => {
  await pods.opened();
  await pods.level();
  pods.split.ownedOtherwise.set("pod-0 @hashed/aa/bb/red-one.git", "blue" as OrganizationId);
  const theirs = await pods.source.pod.repository("@hashed/aa/bb/red-one.git");
  await pods.target.pod.repository("@hashed/aa/bb/red-one.git");
  await eventually(() => expect(pods.flow?.problem).toMatchObject({ code: "GIT_NOT_EMPTY" }), 20_000);
  expect(await mustGit(["-C", here("@hashed/aa/bb/red-one.git"), "rev-parse", "main"])).toBe(theirs);
}, 60_000);

it("what the new Pod does not know the owner of is not deleted for that, and others' it does not tell", async () => {
  await pods.opened();
  await pods.level();
  const { port } = pods.target.server;
  await pods.split.stop(pods.target);
  pods.split.lookupFails.add("pod-100 red/two.git");
  await pods.split.start(pods.target, port);
  await pods.reach(pods.target, "open", "opened");
  await eventually(() => expect(pods.flow?.problem).toMatchObject({ code: "OWNER_UNKNOWN" }), 20_000);
  expect(pods.flow?.lag.amount).toBe(1);
  expect(await exists(here("red/two.git"))).toBe(true);
  // It has a copy of all that the source had, and tells of its own share.
  expect(await exists(there("blue/one.git"))).toBe(true);
  const { entries } = (await (await told()).json()) as { entries: { path: string }[] };
  expect(entries.map(({ path }) => path).sort()).toEqual(["red/one.git", "red/two.git"]);
  pods.split.lookupFails.clear();
  await pods.level();
}, 60_000);

it("given up, nothing flows back any more and nobody is told anything", async () => {
  await pods.opened();
  await pods.level();
  pods.reverseReplication = [];
  await pods.again();
  expect(pods.split.status(pods.source).reverseReplication).toBeUndefined();
  await mustGit(["-C", there("red/one.git"), "update-ref", "refs/heads/x", "refs/heads/main"]);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(await pods.source.pod.refs("red/one.git")).not.toContain("refs/heads/x");
  expect(await exists(join(pods.source.pod.root, "+cleave"))).toBe(false);
  const answer = await told();
  expect(answer.status).toBe(503);
}, 60_000);
