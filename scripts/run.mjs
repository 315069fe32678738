#!/usr/bin/env node
/**
 * Runs a TypeScript file of this project on any machine with Node 20 and npm: installs what is missing, says
 * so, and hands over to the Node version that the project is written for.
 *
 *     node scripts/run.mjs FILE.ts [arguments…]
 *     node scripts/run.mjs --check               type checker and linter
 *     node scripts/run.mjs --test [arguments…]   both, then all tests; with arguments: vitest alone with these
 *
 * Plain JavaScript without packages, because it runs before there are any.
 */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureBrowser } from "./browser.mjs";
import { runChecks } from "./checks.mjs";
import { useMemoryFolder } from "./memory-folder.mjs";
import { ensurePackages } from "./packages.mjs";
import { ensureServers } from "./servers.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Processes started here share our process group, so the terminal's Ctrl-C reaches them without us. */
function runPassingThrough(command, args) {
  return new Promise((done, failed) => {
    const child = spawn(command, args, { stdio: "inherit" });
    const forward = (signal) => child.kill(signal);
    const ignore = () => {};
    process.on("SIGINT", ignore);
    for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, forward);
    child.on("error", failed);
    child.on("close", (code, signal) => done(code ?? 128 + (constants.signals[signal] ?? 0)));
  });
}

async function main([first, ...rest]) {
  if (first === undefined || first === "--help") {
    console.log("usage: node scripts/run.mjs FILE.ts [arguments…] | --check | --test [vitest arguments…]");
    return first === undefined ? 2 : 0;
  }
  const node = await ensurePackages(root);
  // A demo or an end-to-end test starts some twenty processes: each spares half a second of compiling.
  process.env.NODE_COMPILE_CACHE ??= resolve(root, "node_modules/.cache/node");
  if (first === "--check") return runChecks(root, node, { tests: false, vitestArguments: [] });
  const file = resolve(root, first);
  // The operator's command talks to a coordinator elsewhere and needs no servers of its own.
  if (!file.startsWith(resolve(root, "coordinator/cli"))) await ensureServers();
  if (first === "--test" || file.endsWith("screenshots.ts")) ensureBrowser();
  if (first === "--test") useMemoryFolder();
  if (first === "--test") return runChecks(root, node, { tests: true, vitestArguments: rest });
  return runPassingThrough(node, ["--disable-warning=ExperimentalWarning", file, ...rest]);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error?.forPeople ? error.message : error);
  process.exitCode = 1;
}
