/** Completion as shells ask for it, and in a real bash. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, it } from "vitest";
import { freePort } from "../../../examples/quickstart/cluster/ports.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { cleave, endCleave } from "../../support/coordinator/cleave.ts";

let api: ApiFixture;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-tab-"));
  api = await startApi();
  const file = join(folder, "plan.yaml");
  await writeFile(
    file,
    "migration: split-1\nsource: pod-0\nassignments: [{pod: pod-100, organizations: [1]}]\n",
  );
  await cleave(["plan", file], { url: api.url });
});
afterEach(async () => {
  await endCleave();
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

const words = async (...line: string[]) => {
  const { code, stdout } = await cleave(["complete", "--", ...line], { url: api.url });
  expect(code).toBe(0);
  return stdout
    .split("\n")
    .filter((word) => word !== "" && !word.startsWith(":"))
    .map((word) => word.split("\t")[0]);
};

it("offers commands, options, states, migrations, Pods and files", async () => {
  expect(await words("fin")).toEqual(["finalize"]);
  expect(await words("ch")).toEqual(["check", "checksum"]);
  expect(await words("abort", "")).toEqual(["split-1"]);
  expect(await words("revoke", "split-1", "pod-10")).toEqual(["pod-100", "pod-101"]);
  expect(await words("abort", "split-1", "--r")).toEqual(["--reason"]);
  expect(await words("wait", "split-1", "--for", "re")).toEqual(["ready", "retaining", "refused"]);
  expect(await words("plan", `${folder}/pl`)).toEqual([`${folder}/plan.yaml`]);
  expect(await words("completion", "")).toEqual(["bash", "zsh", "fish"]);
});

it("does without a coordinator that does not answer", async () => {
  const url = `http://127.0.0.1:${await freePort()}`;
  const alone = await cleave(["complete", "--", "abort", ""], { url });
  expect([alone.code, alone.stdout, alone.stderr]).toEqual([0, ":4\n", ""]);
});

it("works in bash", async () => {
  const bin = join(folder, "bin");
  await mkdir(bin);
  await symlink(join(import.meta.dirname, "../../../bin/cleave.mjs"), join(bin, "cleave"));
  const { stdout } = await cleave(["completion", "bash"]);
  const file = join(folder, "completion.bash");
  await writeFile(file, stdout);
  const marker = join(folder, "ran");
  const ask = `source ${file}
COMP_WORDS=(cleave abort '$(touch ${marker})' spl); COMP_CWORD=3; _cleave
COMP_WORDS=(cleave abort spl); COMP_CWORD=2; _cleave
printf '%s\\n' "\${COMPREPLY[@]}"; complete -p cleave`;
  const PATH = `${bin}:${dirname(process.execPath)}:${process.env["PATH"]}`;
  const bash = promisify(execFile)("bash", ["-c", ask], {
    env: { ...process.env, PATH, CLEAVE_URL: api.url },
  });
  const said = (await bash).stdout;
  expect(said).toBe("split-1\ncomplete -F _cleave cleave\n");
  expect(existsSync(marker), "what is typed is not run").toBe(false);
});

it("is there for each shell, also as JSON", async () => {
  expect((await cleave(["completion", "zsh"])).stdout).toMatch(/^#compdef cleave/);
  expect((await cleave(["completion", "fish"])).stdout).toMatch(/complete .*-c cleave/);
  const json = JSON.parse((await cleave(["completion", "bash", "--json"])).stdout);
  expect(json).toEqual({ shell: "bash", script: expect.stringContaining("complete -F") });
  expect(await cleave(["completion", "tcsh"])).toMatchObject({ code: 2 });
});
