/** Gitaly's checksum, against vectors computed by Gitaly's own code on repositories that git makes here. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { runChecksum } from "../../../agent/commands/checksum/main.ts";
import {
  repositoryChecksum,
  ShowRefSum,
  ZERO_CHECKSUM,
} from "../../../agent/stores/git/backend/folder/checksum.ts";

const SCRIPT = String.raw`
set -eu; export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null LC_ALL=C
for w in AUTHOR COMMITTER; do export GIT_${"$"}{w}_NAME=Vec GIT_${"$"}{w}_EMAIL=vec@example.com GIT_${"$"}{w}_DATE='1700000000 +0000'; done
T=4b825dc642cb6eb9a060e54bf8d69288fbee4904
new(){ git init -q --bare -b main $1; git -C $1 mktree </dev/null >/dev/null; }
ci(){ printf %s "$2" | git -C $1 commit-tree -F - ${"$"}{3:+-p $3} $T; }
ref(){ git -C $1 update-ref refs/$2 $3; }
new r1
new r2; A=$(ci r2 one); ref r2 heads/main $A
new r3; A=$(ci r3 one); B=$(ci r3 two $A); N=$(ci r3 note)
for x in heads/main=$B heads/feature=$A tags/v1=$A notes/commits=$N keep-around/$A=$A merge-requests/1/head=$B environments/1=$B pipelines/7=$A tmp/x=$B remotes/origin/main=$A; do ref r3 ${"$"}{x%=*} ${"$"}{x#*=}; done
git -C r3 tag -am v2 v2 $B
cp -r r3 r3packed; git -C r3packed pack-refs --all
new r4; A=$(ci r4 one); B=$(ci r4 two $A); ref r4 heads/main $A; git -C r4 update-ref --no-deref HEAD $B
cp -r r2 r5; git -C r5 symbolic-ref refs/remotes/origin/HEAD refs/heads/main; ref r5 x/refs/heads/y $A
cp -r r2 r6; git -C r6 symbolic-ref HEAD refs/heads/nope
new r7; A=$(ci r7 one); ref r7 heads/b146 $A
cp -r r2 r8; echo 1111111111111111111111111111111111111111 >r8/refs/heads/missing
cp -r r2 r9; : >r9/refs/heads/emptied
new r10; A=$(ci r10 one); ref r10 pipelines/7 $A
cp -r r2 r11; ref r11 heads/$(printf 'caf\351') $A
mkdir plain
cp -r r2 nohead; : >nohead/HEAD
`;

let folder: string;
const of = (name: string) => repositoryChecksum(join(folder, name));

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "cleave-checksum-"));
  execFileSync("sh", ["-c", SCRIPT], { cwd: folder });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("Gitaly's vectors", () => {
  it.each([
    ["r1", ZERO_CHECKSUM, "empty"],
    ["r2", "33278ec5628cf173f2b8c119f6a5569a61b38e2c", "ok"],
    ["r3", "fd95ba27e62c73fffbdf73422f143b024501ad97", "ok"],
    ["r3packed", "fd95ba27e62c73fffbdf73422f143b024501ad97", "ok"],
    ["r4", "b993fb4f2426abb9727918dfbbe411fe144f0576", "ok"],
    ["r5", "195b8c1201f7798658e7c19a40a69cb2a1bba967", "ok"],
    ["r6", "de8c102915bc65ea9cc8240b06b06ddebedf8498", "ok"],
    ["r7", "617f9d2835f7eefd1587d96472e0a3c4fadfc1", "ok"],
    ["r8", ZERO_CHECKSUM, "unreadable"],
    ["r11", "5387d1771d40d504782323b3aa9c98ad531bd67a", "ok"],
  ] as const)("%s is %s (%s)", async (name, checksum, reason) => {
    expect(await of(name)).toMatchObject({ checksum, reason });
  });
});

describe("what zeros leave open", () => {
  it("an emptied ref file is unreadable, with git's words", async () => {
    const found = await of("r9");
    expect(found).toMatchObject({ checksum: ZERO_CHECKSUM, reason: "unreadable" });
    expect(found.detail).toContain("refs/heads/emptied");
  });

  it("refs that Gitaly does not count are seen by the digest over all refs", async () => {
    const [empty, uncounted] = await Promise.all([of("r1"), of("r10")]);
    expect(uncounted).toMatchObject({ checksum: ZERO_CHECKSUM, reason: "ok", refs: 1 });
    expect(uncounted.refsDigest).not.toBe(empty.refsDigest);
  });

  it.each(["plain", "nohead", "absent"])("%s is no repository: an error, not zeros", async (name) => {
    await expect(of(name)).rejects.toMatchObject({ code: "REPOSITORY_UNREADABLE" });
  });
});

describe("the stream", () => {
  it("may come in pieces of any size", () => {
    const lines = Buffer.concat([
      Buffer.from(`${"1".repeat(40)} HEAD\n${"2".repeat(40)} refs/heads/caf`),
      Buffer.from([0xe9, 10]),
      Buffer.from(`${"3".repeat(40)} refs/pipelines/1\n`),
    ]);
    const whole = new ShowRefSum();
    whole.add(lines);
    const expected = whole.finish();
    expect(expected.refs).toBe(3);
    for (const size of [1, 2, 7, 64]) {
      const pieces = new ShowRefSum();
      for (let at = 0; at < lines.length; at += size) pieces.add(lines.subarray(at, at + size));
      expect(pieces.finish()).toEqual(expected);
    }
  });
});

describe("cleave checksum", () => {
  it("prints checksum, path and reason, and fails for what is unreadable", async () => {
    const lines: string[] = [];
    const out = vi.spyOn(process.stdout, "write").mockImplementation((text) => lines.push(String(text)) > 0);
    const err = vi.spyOn(process.stderr, "write").mockImplementation((text) => lines.push(String(text)) > 0);
    try {
      expect(await runChecksum([join(folder, "r2"), join(folder, "r1")])).toBe(0);
      expect(await runChecksum([join(folder, "r8")])).toBe(1);
      expect(await runChecksum([join(folder, "plain")])).toBe(1);
    } finally {
      out.mockRestore();
      err.mockRestore();
    }
    expect(lines[0]).toBe(`33278ec5628cf173f2b8c119f6a5569a61b38e2c  ${join(folder, "r2")}  (ok)\n`);
    expect(lines[1]).toBe(`${ZERO_CHECKSUM}  ${join(folder, "r1")}  (empty)\n`);
    expect(lines[2]).toMatch(/^0{40} {2}.*r8 {2}\(unreadable: fatal: .*refs\/heads\/missing/);
    expect(lines[3]).toMatch(/^REPOSITORY_UNREADABLE: not a Git repository/);
  });

  it("prints all of them as one JSON array, unreadable ones too", async () => {
    let text = "";
    const out = vi.spyOn(process.stdout, "write").mockImplementation((more) => {
      text += String(more);
      return true;
    });
    try {
      expect(await runChecksum([join(folder, "r2"), join(folder, "plain")], true)).toBe(1);
    } finally {
      out.mockRestore();
    }
    expect(JSON.parse(text)).toEqual([
      expect.objectContaining({
        checksum: "33278ec5628cf173f2b8c119f6a5569a61b38e2c",
        reason: "ok",
        error: null,
      }),
      expect.objectContaining({
        checksum: null,
        error: expect.objectContaining({ code: "REPOSITORY_UNREADABLE" }),
      }),
    ]);
  });
});
