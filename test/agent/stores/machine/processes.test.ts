/** A process that /proc does not show is not one that has ended. */
import { spawnSync } from "node:child_process";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { lifeOf, ownView, processStartTime } from "../../../../agent/stores/machine/processes.ts";
import { noNamespaces } from "../../../support/namespaces.ts";

test("another user's process is alive or unseen, whatever /proc hides; one that nobody has is ended", async ({
  skip,
}) => {
  skip(noNamespaces !== null, noNamespaces ?? "");
  const view = await ownView();
  const startTime = await processStartTime(process.pid);
  expect(await lifeOf({ pid: process.pid, startTime: startTime ?? "", view })).toBe("alive");
  const folder = await mkdtemp(join(tmpdir(), "cleave-processes-"));
  try {
    const source = join(import.meta.dirname, "../../../../agent/stores/machine/processes.ts");
    await cp(source, join(folder, "processes.ts"));
    const asked = { view, startTime };
    await writeFile(
      join(folder, "ask.ts"),
      `import { lifeOf } from "./processes.ts";
      const asked = ${JSON.stringify(asked)};
      for (const pid of [${process.pid}, 4194304]) console.log(await lifeOf({ ...asked, pid }));`,
    );
    const script = `chmod 755 "$1" && mount -t proc -o hidepid=2 proc /proc &&
      exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all "$2" "$1/ask.ts"`;
    const args = ["-m", "sh", "-c", script, "hidden", folder, process.execPath];
    const answered = spawnSync("unshare", args, { encoding: "utf8" });
    expect(answered.stdout, answered.stderr).toBe("unseen\nended\n");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
