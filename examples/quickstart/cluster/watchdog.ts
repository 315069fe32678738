/**
 * A small process that outlives the demo by a moment: it is told through a pipe what was started, and when the
 * pipe closes, for whatever reason, it ends all of that. `keep` instead writes the list into a file for later.
 *
 * Lines on standard input: `{"add": Ending}`, `{"keep": FILE}`.
 */
import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { type Ending, endAll } from "./endings.ts";

type Line = { readonly add: Ending } | { readonly keep: string };

const endings: Ending[] = [];
let kept = false;
// The terminal's Ctrl-C and a closing terminal are for the demo to handle; this process waits for its pipe.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});

// The demo may be gone, and with it the reader of what this says.
process.stdout.on("error", () => {});

for await (const text of createInterface({ input: process.stdin })) {
  const line = JSON.parse(text) as Line;
  if ("add" in line) endings.push(line.add);
  else {
    writeFileSync(line.keep, `${JSON.stringify(endings, null, 2)}\n`);
    kept = true;
  }
}
if (!kept) {
  const forced = await endAll(endings);
  if (forced.length > 0) process.stdout.write(`${forced.join(", ")}\n`);
}
