/**
 * A program that writes objects through the fence until it is told to stop or killed. Prints one JSON line per
 * acknowledged or refused write; the test holds it against what the agent heard of.
 * Arguments: control folder, object root, number of the writer, organizations (comma-separated), pause in ms,
 * and whether it calls itself a `server` or a `worker`.
 */
import { writeSync } from "node:fs";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { WriteRefused, withWriteIntent } from "../../../agent/stores/file-fence/write-intent.ts";

const [control, root, writer, organizations, pauseMs, kind = "worker"] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  "server" | "worker" | undefined,
];
const print = (line: object) => writeSync(1, `${JSON.stringify(line)}\n`);

for (let number = 0; ; number++) {
  const list = organizations.split(",");
  const organizationId = list[number % list.length] as string;
  const key = `uploads/${organizationId}/${writer}-${number}`;
  try {
    await withWriteIntent({ control, store: "objects", key, organizationId, process: kind }, async () => {
      print({ begun: key });
      const path = join(root, key);
      const temporary = join(dirname(path), `.cleave-tmp-${writer}-${number}`);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(temporary, `${key} ${"x".repeat(100)}`);
      await sleep(Number(pauseMs));
      await rename(temporary, path);
    });
    print({ acknowledged: key, organizationId });
  } catch (error) {
    if (!(error instanceof WriteRefused)) throw error;
    print({ refused: key, organizationId, code: error.code, podId: error.podId });
    await sleep(1);
  }
}
