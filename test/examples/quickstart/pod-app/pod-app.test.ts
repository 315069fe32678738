/** The Pod's application on real stores: what it acknowledges, and how it passes on what the stores refuse. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { repositoryPath } from "../../../../examples/quickstart/pod-app/git.ts";
import { objectPath } from "../../../../examples/quickstart/traffic/objects.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import { git, mustGit } from "../../../support/git/pod.ts";
import { type PodAnswer, SamplePodWithApp } from "../../../support/sample-pod-app.ts";

const ISOLATION_LEVELS = ["read committed", "repeatable read", "serializable"] as const;

let pod: SamplePodWithApp;

beforeAll(async () => {
  pod = await SamplePodWithApp.start();
});
afterAll(async () => {
  await pod?.remove();
});
afterEach(async () => {
  await pod.setPhase("source");
});

const issues = (organization: OrganizationId) => `/organizations/${organization}/issues`;
const post = (organization: OrganizationId, issue: object = {}) =>
  pod.send("POST", issues(organization), { writeId: randomUUID(), title: "An issue", ...issue });
const json = ({ body }: PodAnswer) => JSON.parse(body.toString("utf8")) as unknown;
const stored = (writeId: string) =>
  pod.cluster.query<{ title: string; revision: number; notes: number }>(
    `SELECT i.title, i.revision, (SELECT count(*)::int FROM notes n WHERE n.noteable_type = 'Issue' AND n.noteable_id = i.id) AS notes
       FROM issues i WHERE i.write_id = $1`,
    [writeId],
  );
const refusedForNow = { status: 503, headers: { "retry-after": "1", "cleave-refused": expect.any(String) } };
const onPod1 = { status: 421, headers: { "cleave-pod": "pod-1" } };

describe("issues", () => {
  it.each(ISOLATION_LEVELS)("are created once, however often they are sent (%s)", async (isolation) => {
    const writeId = randomUUID();
    const issue = { writeId, title: "Größer ☃", isolation, readFirst: true };
    const first = await post(pod.staying, issue);
    expect(first.status).toBe(201);
    expect(json(first)).toEqual({ writeId, podId: "pod-0", revision: 1 });
    expect((await post(pod.staying, issue)).status).toBe(200);
    expect(await stored(writeId)).toEqual([{ title: "Größer ☃", revision: 1, notes: 1 }]);
  });

  it("are created once when the same write comes many times at once", async () => {
    const writeId = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 9 }, (_, at) =>
        post(pod.staying, { writeId, isolation: ISOLATION_LEVELS[at % 3], readFirst: true }),
      ),
    );
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses.filter((status) => status === 201)).toHaveLength(1);
    // One that lost every time against the others is told to try again.
    expect(statuses.every((status) => [200, 201, 503].includes(status))).toBe(true);
    expect(await stored(writeId)).toMatchObject([{ revision: 1, notes: 1 }]);
  });

  it("are changed by newer revisions only, read, and deleted with their notes", async () => {
    const writeId = randomUUID();
    const path = `${issues(pod.staying)}/${writeId}`;
    expect((await pod.send("PUT", path, { revision: 2, title: "x" })).status).toBe(404);
    await post(pod.staying, { writeId });
    expect((await pod.send("PUT", path, { revision: 3, title: "third" })).status).toBe(200);
    expect((await pod.send("PUT", path, { revision: 2, title: "second, late" })).status).toBe(200);
    expect(json(await pod.send("GET", path))).toEqual({
      writeId,
      title: "third",
      revision: 3,
      podId: "pod-0",
    });
    const id = (
      await pod.cluster.query<{ id: string }>("SELECT id FROM issues WHERE write_id = $1", [writeId])
    )[0]?.id;
    expect((await pod.send("DELETE", path)).status).toBe(204);
    expect((await pod.send("DELETE", path)).status).toBe(404);
    expect((await pod.send("GET", path)).status).toBe(404);
    expect(
      await pod.cluster.query("SELECT FROM notes WHERE noteable_type = 'Issue' AND noteable_id = $1", [id]),
    ).toEqual([]);
  });

  it("are seen in their own organization only", async () => {
    const writeId = randomUUID();
    await post(pod.staying, { writeId });
    const path = `${issues(pod.moving)}/${writeId}`;
    expect((await pod.send("GET", path)).status).toBe(404);
    expect((await pod.send("PUT", path, { revision: 9, title: "not yours" })).status).toBe(404);
    expect((await pod.send("DELETE", path)).status).toBe(404);
    expect(await stored(writeId)).toMatchObject([{ title: "An issue" }]);
  });

  it("of nobody, or not well-formed, are refused for good", async () => {
    expect((await post("77" as OrganizationId)).status).toBe(404);
    for (const issue of [{ writeId: "" }, { title: 7 }, { isolation: "chaos" }, { holdOpenMs: -1 }])
      expect((await post(pod.staying, issue)).status, JSON.stringify(issue)).toBe(400);
    expect((await pod.send("PUT", issues(pod.staying), {})).status).toBe(405);
    expect((await pod.send("GET", "/organizations/%E0%A4%A/issues")).status).toBe(400);
    expect((await pod.send("GET", "/organizations/1;DROP/issues/x")).status).toBe(404);
  });
});

describe("while an organization is fenced", () => {
  it("its issues cannot be written and can be read; neighbours notice nothing", async () => {
    const writeId = randomUUID();
    const path = `${issues(pod.moving)}/${writeId}`;
    await post(pod.moving, { writeId });
    await pod.setPhase("fenced");
    for (const isolation of ISOLATION_LEVELS)
      expect(await post(pod.moving, { isolation }), isolation).toMatchObject(refusedForNow);
    expect(await pod.send("PUT", path, { revision: 2, title: "x" })).toMatchObject(refusedForNow);
    expect(await pod.send("DELETE", path)).toMatchObject(refusedForNow);
    expect((await pod.send("GET", path)).status).toBe(200);
    expect((await post(pod.staying)).status).toBe(201);
    await pod.setPhase("source");
    expect((await pod.send("DELETE", path)).status).toBe(204);
  });

  it.each(ISOLATION_LEVELS)("a transaction that the fence ends is answered 503 (%s)", async (isolation) => {
    const writeId = randomUUID();
    const open = post(pod.moving, { writeId, isolation, readFirst: true, holdOpenMs: 30_000 });
    await sleep(200);
    await pod.setPhase("fenced");
    const endedAt = performance.now();
    expect(await open).toMatchObject(refusedForNow);
    // Not when it would have looked again by itself.
    expect(performance.now() - endedAt).toBeLessThan(2_000);
    expect(await stored(writeId)).toEqual([]);
  });

  it.each(ISOLATION_LEVELS)("a transaction that had read before it is refused (%s)", async (isolation) => {
    await pod.setPhase("fenced");
    expect(await post(pod.moving, { isolation, readFirst: true })).toMatchObject(refusedForNow);
  });

  it("its objects and repositories cannot be written", async () => {
    const object = objectPath(pod.moving, "fenced/file");
    expect((await pod.send("PUT", object, Buffer.from("before"))).status).toBe(201);
    await pod.setPhase("fenced");
    expect(await pod.send("PUT", object, Buffer.from("after"))).toMatchObject(refusedForNow);
    expect(await pod.send("DELETE", object)).toMatchObject(refusedForNow);
    expect((await pod.send("GET", object)).body.toString()).toBe("before");
    const neighbour = objectPath(pod.staying, "fenced/file");
    expect((await pod.send("PUT", neighbour, Buffer.from("x"))).status).toBe(201);
  });
});

describe("after an organization went to another Pod", () => {
  it("every write is answered with that Pod, also of what this Pod never had", async () => {
    const writeId = randomUUID();
    await post(pod.moving, { writeId });
    await pod.setPhase("opened");
    const path = (id: string) => `${issues(pod.moving)}/${id}`;
    for (const isolation of ISOLATION_LEVELS)
      expect(await post(pod.moving, { isolation, readFirst: true })).toMatchObject(onPod1);
    for (const id of [writeId, randomUUID()]) {
      expect(await pod.send("PUT", path(id), { revision: 2, title: "x" }), id).toMatchObject(onPod1);
      expect(await pod.send("DELETE", path(id)), id).toMatchObject(onPod1);
    }
    expect(await pod.send("PUT", objectPath(pod.moving, "x"), Buffer.from("x"))).toMatchObject(onPod1);
    expect(await pod.send("DELETE", objectPath(pod.moving, "never-there"))).toMatchObject(onPod1);
    expect((await post(pod.staying)).status).toBe(201);
  });
});

describe("objects", () => {
  it("are written, overwritten, read and deleted, and nothing else is left behind", async () => {
    const path = objectPath(pod.staying, "traffic/run-1");
    const large = Buffer.alloc(3_000_000, "large ");
    expect((await pod.send("GET", path)).status).toBe(404);
    expect((await pod.send("PUT", path, Buffer.from("first"))).status).toBe(201);
    expect((await pod.send("PUT", path, large)).status).toBeLessThan(300);
    expect((await pod.send("GET", path)).body.equals(large)).toBe(true);
    expect((await pod.send("DELETE", path)).status).toBe(204);
    expect((await pod.send("DELETE", path)).status).toBe(404);
    expect((await pod.send("GET", path)).status).toBe(404);
  });

  it("have no names that lead elsewhere", async () => {
    for (const name of [
      "..%2f..%2fescape",
      "%2e%2e/escape",
      "a//b",
      "a%00b",
      ".tmp/x",
      "a%0ab",
      "%2fetc%2fpasswd",
    ])
      expect([400, 404], name).toContain(
        (await pod.send("PUT", `/organizations/${pod.staying}/objects/${name}`, Buffer.from("x"))).status,
      );
  });

  it("do not replace what is there when a client goes away in the middle", async () => {
    const path = objectPath(pod.staying, "half");
    await pod.send("PUT", path, Buffer.from("whole"));
    const socket = connect(pod.app.port, "127.0.0.1");
    await once(socket, "connect");
    socket.write(`PUT ${path} HTTP/1.1\r\nhost: pod\r\ncontent-length: 1000\r\n\r\nhalf`);
    await sleep(50);
    socket.destroy();
    await sleep(100);
    expect((await pod.send("GET", path)).body.toString()).toBe("whole");
  });
});

describe("repositories", () => {
  const remote = (organization: OrganizationId, project = pod.projects.get(organization) as string) =>
    `${pod.url}/organizations/${organization}/repositories/${project}.git`;
  const clone = async (organization: OrganizationId) => {
    const folder = join(pod.cluster.folder, `clone-${randomUUID()}`);
    await mustGit(["clone", "-q", remote(organization), folder]);
    return folder;
  };
  const commit = async (folder: string, file: string) => {
    await writeFile(join(folder, file), randomUUID());
    await mustGit(["-C", folder, "add", "."]);
    await mustGit(["-C", folder, "commit", "-q", "-m", file]);
    return mustGit(["-C", folder, "rev-parse", "HEAD"]);
  };
  const remoteRef = async (organization: OrganizationId, ref: string) =>
    (await mustGit(["ls-remote", remote(organization), ref])).split("\t")[0];

  it("are cloned, pushed to and cleaned of branches, in both protocol versions", async () => {
    const folder = await clone(pod.staying);
    const pushed = await commit(folder, "one");
    await mustGit(["-C", folder, "push", "-q", "origin", "HEAD:refs/heads/new", "HEAD:refs/tags/new"]);
    expect(await remoteRef(pod.staying, "refs/heads/new")).toBe(pushed);
    for (const version of [0, 2]) {
      const again = join(pod.cluster.folder, `again-${version}`);
      await mustGit([
        "-c",
        `protocol.version=${version}`,
        "clone",
        "-q",
        "-b",
        "new",
        remote(pod.staying),
        again,
      ]);
      expect(await mustGit(["-C", again, "rev-parse", "HEAD"])).toBe(pushed);
    }
    await mustGit(["-C", folder, "push", "-q", "origin", ":refs/heads/new"]);
    expect(await remoteRef(pod.staying, "refs/heads/new")).toBe("");
    await rm(folder, { recursive: true });
  });

  /** A push as it goes over the wire, which needs no pack for a deletion. */
  const deletion = async (organization: OrganizationId, ...refs: string[]) => {
    const commands = await Promise.all(
      refs.map(async (ref, at) => {
        const old = (await remoteRef(organization, ref)) || "1".repeat(40);
        return `${old} ${"0".repeat(40)} ${ref}${at === 0 ? "\0report-status side-band-64k" : ""}\n`;
      }),
    );
    const lines = commands.map((line) => `${(line.length + 4).toString(16).padStart(4, "0")}${line}`);
    const path = `${remote(organization)}/git-receive-pack`.slice(pod.url.length);
    return pod.send("POST", path, Buffer.from(`${lines.join("")}0000`));
  };

  it("refuse pushes as the Pod does: 503 while fenced, 421 with the right Pod after", async () => {
    const folder = await clone(pod.moving);
    await commit(folder, "refused");
    const push = () => git(["-C", folder, "push", "origin", "HEAD:refs/heads/refused"]);
    await pod.setPhase("fenced");
    expect((await push()).code).not.toBe(0);
    expect(await deletion(pod.moving, "refs/heads/topic-1")).toMatchObject(refusedForNow);
    await pod.setPhase("opened");
    expect((await push()).code).not.toBe(0);
    expect(await deletion(pod.moving, "refs/heads/topic-1")).toMatchObject(onPod1);
    await pod.setPhase("source");
    expect(await remoteRef(pod.moving, "refs/heads/refused")).toBe("");
    expect((await push()).code).toBe(0);
    expect((await deletion(pod.moving, "refs/heads/topic-1")).status).toBe(200);
    expect(await remoteRef(pod.moving, "refs/heads/topic-1")).toBe("");
  });

  it("answer a push that went through in part as git does: sent again, its other part would fail", async () => {
    const folder = await clone(pod.staying);
    await commit(folder, "part");
    await mustGit(["-C", folder, "push", "-q", "origin", "HEAD:refs/heads/part", "HEAD:refs/heads/kept"]);
    const hook = join(
      repositoryPath(pod.gitRoot, pod.projects.get(pod.staying) as string),
      "hooks",
      "update",
    );
    // As a fence would that came between the two.
    const script = `[ "$1" != refs/heads/kept ] || { echo 'cleave: this repository is read-only' >&2; exit 1; }`;
    await writeFile(hook, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    try {
      expect(await deletion(pod.staying, "refs/heads/kept")).toMatchObject(refusedForNow);
      const answer = await deletion(pod.staying, "refs/heads/part", "refs/heads/kept");
      expect(answer.status).toBe(200);
      expect(answer.body.toString("latin1")).toMatch(/ok refs\/heads\/part[\s\S]*ng refs\/heads\/kept/);
    } finally {
      await rm(hook);
    }
  });

  it("are found in their own organization only, and nowhere else", async () => {
    const foreign = pod.projects.get(pod.moving) as string;
    expect((await git(["ls-remote", remote(pod.staying, foreign)])).stderr).toMatch(/not found/);
    expect((await git(["ls-remote", remote(pod.staying, "4711")])).stderr).toMatch(/not found/);
    const project = pod.projects.get(pod.staying) as string;
    const base = `/organizations/${pod.staying}/repositories/${project}.git`;
    expect((await pod.send("GET", `${base}/info/refs?service=git-upload-archive`)).status).toBe(403);
    expect((await pod.send("GET", `${base}/HEAD`)).status).toBe(404);
    expect((await pod.send("POST", `${base}/git-upload-archive`, Buffer.from(""))).status).toBe(404);
  });
});

describe("PostgreSQL", () => {
  it("that is stopped, or a hot standby, is answered 503; the application goes on when it is back", async () => {
    const path = `${issues(pod.staying)}/none`;
    await pod.cluster.stop("fast");
    expect(await post(pod.staying)).toMatchObject(refusedForNow);
    expect(await pod.send("GET", path)).toMatchObject(refusedForNow);
    expect((await pod.send("GET", "/health")).status).toBe(200);
    const signal = join(pod.cluster.dataDirectory, "standby.signal");
    await writeFile(signal, "");
    try {
      await pod.cluster.resume();
      for (const isolation of ISOLATION_LEVELS)
        expect(await post(pod.staying, { isolation }), isolation).toMatchObject(refusedForNow);
      expect((await pod.send("GET", path)).status).toBe(404);
      await pod.cluster.stop("fast");
    } finally {
      await rm(signal, { force: true });
      await pod.cluster.resume();
    }
    expect((await post(pod.staying)).status).toBe(201);
  });
});
