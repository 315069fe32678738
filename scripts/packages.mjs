/** The npm packages and, among them, the Node version that the project runs on. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { say, stopWith } from "./say.mjs";

/**
 * Installs the packages of package-lock.json when they are missing or older than it.
 * @param {string} root folder of the project
 * @returns {Promise<string>} path of the Node executable to run TypeScript with
 */
export async function ensurePackages(root) {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < 20) throw stopWith(`Node 20 or newer is needed to start; this is ${process.version}.`);
  if (isOutdated(root)) {
    say("installing npm packages (once)…");
    // Not `npm ci`: it refuses a lock without the packages of platforms that a registry mirror does not carry.
    // Versions and checksums come from the lock all the same. Install scripts stay off; the one that is needed
    // (Node itself) is run below, by name.
    npm(root, ["install", "--no-save", "--ignore-scripts", "--loglevel=error"]);
  }
  const node = join(root, "node_modules/node/bin/node");
  if (versionOf(node) !== wantedVersion(root)) {
    say(`installing Node ${wantedVersion(root)} into node_modules (once)…`);
    const folder = join(root, "node_modules/node");
    run(process.execPath, ["installArchSpecificPackage.js"], folder);
  }
  const version = versionOf(node);
  if (version === null) {
    throw stopWith(
      `${node} does not run. Remove node_modules and try again, or use a system with glibc (on Alpine: none is published).`,
    );
  }
  return node;
}

function isOutdated(root) {
  const installed = join(root, "node_modules/.package-lock.json");
  if (!existsSync(installed)) return true;
  return statSync(installed).mtimeMs < statSync(join(root, "package-lock.json")).mtimeMs;
}

function wantedVersion(root) {
  return JSON.parse(readFileSync(join(root, "package.json"), "utf8")).dependencies.node;
}

function versionOf(node) {
  const result = spawnSync(node, ["--version"], { encoding: "utf8" });
  return result.status === 0 ? result.stdout.trim().replace(/^v/, "") : null;
}

function npm(root, args) {
  run(process.platform === "win32" ? "npm.cmd" : "npm", args, root);
}

function run(command, args, cwd) {
  // Standard output is kept for what the person asked for.
  const result = spawnSync(command, args, { cwd, stdio: ["ignore", 2, 2] });
  if (result.error?.code === "ENOENT")
    throw stopWith(`${command} was not found; it comes with Node: https://nodejs.org`);
  if (result.status !== 0) throw stopWith(`${command} ${args.join(" ")} failed (see above).`);
}
