#!/usr/bin/env node
/** `cleave`: hands over to the part that is asked for, on a Node version that runs TypeScript directly. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const root = new URL("..", import.meta.url);
const path = (name) => fileURLToPath(new URL(name, root));
const ENTRIES = {
  agent: "agent/main.ts",
  coordinator: "coordinator/main.ts",
  checksum: "agent/commands/checksum/main.ts",
  analyze: "agent/commands/analyze/main.ts",
  root: "agent/commands/root/main.ts",
  measure: "agent/commands/measure/main.ts",
};

/** The daemons and tools have command lines of their own; everything else is the operator's command. */
function entryOf([command, ...rest]) {
  // `cleave help agent` and `cleave --json checksum …` mean what they say.
  if (command === "help" && Object.hasOwn(ENTRIES, rest[0] ?? "")) return [ENTRIES[rest[0]], "--help"];
  if (Object.hasOwn(ENTRIES, command ?? "")) return [ENTRIES[command], ...rest];
  // What a Pod's machine is asked is the agent's part of the doctor.
  const ofPod = rest.some((one) => one === "--agent-config" || one.startsWith("--agent-config="));
  if (command === "doctor" && ofPod) return ["agent/commands/doctor/main.ts", ...rest];
  return ["coordinator/cli/main.ts", ...(command === undefined ? [] : [command]), ...rest];
}

/** Types are stripped since 23.6; an older Node uses the one that is installed with the project. */
function nodeBinary() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 23 || (major === 23 && minor >= 6)) return process.execPath;
  const pinned = path("node_modules/node/bin/node");
  if (existsSync(pinned)) return pinned;
  console.error(`error: Node ${process.versions.node} is too old, and ${pinned} is missing
next: run npm ci in ${path(".")}, or use Node 24`);
  process.exit(1);
}

const [entry, ...rest] = entryOf(process.argv.slice(2));
const node = nodeBinary();
const args = ["--disable-warning=ExperimentalWarning", path(entry), ...rest];

if (node === process.execPath && typeof process.execve === "function" && process.platform !== "win32") {
  // This very process becomes the daemon: a supervisor's signals, SIGKILL included, then reach it and leave nothing behind.
  process.removeAllListeners("warning");
  process.execve(node, [node, ...args], process.env);
}

const child = spawn(node, args, { stdio: "inherit" });
// A supervisor signals this process alone; a terminal signals both, and the second one does no harm.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`error: ${error.message}\nnext: run npm ci in ${path(".")}`);
  process.exitCode = 1;
});
child.on("close", (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));
