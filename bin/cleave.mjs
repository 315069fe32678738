#!/usr/bin/env node
/** `cleave`: hands over to the part that is asked for, on the Node version that runs TypeScript directly. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const root = new URL("..", import.meta.url);
const path = (name) => fileURLToPath(new URL(name, root));
const [command, ...rest] = process.argv.slice(2);
const entries = {
  agent: "agent/main.ts",
  coordinator: "coordinator/main.ts",
  checksum: "agent/cli-checksum.ts",
};
const entry = Object.hasOwn(entries, command ?? "") ? entries[command] : "coordinator/cli/main.ts";
const args = entry === "coordinator/cli/main.ts" ? process.argv.slice(2) : rest;

const [major, minor] = process.versions.node.split(".").map(Number);
const pinned = path("node_modules/node/bin/node");
const runsTypeScript = major > 23 || (major === 23 && minor >= 6);
const node = runsTypeScript || !existsSync(pinned) ? process.execPath : pinned;
const child = spawn(node, ["--disable-warning=ExperimentalWarning", path(entry), ...args], {
  stdio: "inherit",
});
// A supervisor signals this process alone; a terminal signals both, and the second one does no harm.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`error: ${error.message}\nnext: run npm ci in ${path(".")}`);
  process.exitCode = 1;
});
child.on("close", (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));
