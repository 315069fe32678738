/** Installs Debian packages without letting Debian create or start any server of its own. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { say, stopWith } from "./say.mjs";

const NO_CLUSTER = "/etc/postgresql-common/createcluster.d/cleave.conf";
const NO_SERVICE = "/usr/sbin/policy-rc.d";

/** @param {string[]} packages @throws when neither root nor sudo is at hand, or apt-get fails */
export function installWithApt(packages) {
  const prefix = rootPrefix(packages);
  say(`installing ${packages.join(", ")} with apt-get (once); no server of the system is created or started`);
  // Both files are ours and go away again, so that later installations behave as their owner expects.
  const created = [];
  const put = (file, content, mode) => {
    if (existsSync(file)) return;
    asRoot(prefix, [
      "sh",
      "-c",
      'mkdir -p "$(dirname "$0")" && printf "%s" "$1" > "$0" && chmod "$2" "$0"',
      file,
      content,
      mode,
    ]);
    created.push(file);
  };
  try {
    if (packages.includes("postgresql")) put(NO_CLUSTER, "create_main_cluster = false\n", "644");
    put(NO_SERVICE, "#!/bin/sh\nexit 101\n", "755");
    if (!install(prefix, packages)) {
      say("the package lists may be old: apt-get update");
      if (!asRoot(prefix, ["apt-get", "update", "-qq"]) || !install(prefix, packages))
        throw stopWith(`apt-get install ${packages.join(" ")} failed (see above).`);
    }
  } finally {
    for (const file of created) asRoot(prefix, ["rm", "-f", file]);
  }
  if (packages.includes("nats-server") && existsSync("/run/systemd/system"))
    asRoot(prefix, ["systemctl", "disable", "--quiet", "nats-server"]);
}

function install(prefix, packages) {
  return asRoot(prefix, [
    "env",
    "DEBIAN_FRONTEND=noninteractive",
    "apt-get",
    "install",
    "-y",
    "-qq",
    "--no-install-recommends",
    ...packages,
  ]);
}

function rootPrefix(packages) {
  if (process.getuid?.() === 0) return [];
  // Without a terminal sudo could only fail by waiting for a password that nobody types.
  const probe = process.stdin.isTTY ? ["sudo", "-v"] : ["sudo", "-n", "true"];
  if (spawnSync(probe[0], probe.slice(1), { stdio: "inherit" }).status === 0) return ["sudo"];
  throw stopWith(`Please run as root: apt-get install ${packages.join(" ")}`);
}

function asRoot(prefix, command) {
  const [name, ...args] = [...prefix, ...command];
  return spawnSync(name, args, { stdio: ["inherit", 2, 2] }).status === 0;
}
