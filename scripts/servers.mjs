/** PostgreSQL, nats-server and git: found where systems put them, installed by apt-get, or asked for. */
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { installWithApt } from "./apt.mjs";
import { say, stopWith } from "./say.mjs";

const OLDEST_POSTGRES = 15;

/** Makes sure that everything is there, or throws with the exact commands that would bring it. */
export async function ensureServers() {
  let missing = missingServers();
  if (missing.length === 0) return;
  if (existsSync("/etc/debian_version") && onPath("apt-get")) {
    say(`missing: ${missing.map((server) => server.label).join(", ")}`);
    installWithApt(missing.map((server) => server.debian));
    missing = missingServers();
    if (missing.length === 0) return;
  }
  throw stopWith(instructions(missing));
}

function missingServers() {
  return [
    {
      label: `PostgreSQL ${OLDEST_POSTGRES} or newer (server)`,
      found: newestPostgres() >= OLDEST_POSTGRES,
      debian: "postgresql",
      brew: "postgresql@17",
      dnf: "postgresql-server postgresql-contrib",
      pacman: "postgresql",
      zypper: "postgresql-server postgresql-contrib",
    },
    {
      label: "nats-server",
      found: onPath("nats-server") || existsSync("/usr/sbin/nats-server"),
      debian: "nats-server",
      brew: "nats-server",
      dnf: "nats-server",
      pacman: "nats-server",
      zypper: "nats-server",
    },
    {
      label: "git",
      found: onPath("git"),
      debian: "git",
      brew: "git",
      dnf: "git-core",
      pacman: "git",
      zypper: "git-core",
    },
  ].filter((server) => !server.found);
}

/** Major version of the newest `postgres` executable that can be found; 0 when there is none. */
function newestPostgres() {
  const folders = [
    ...(process.env.PATH ?? "").split(delimiter),
    ...children("/usr/lib/postgresql", "bin"),
    ...children("/usr", "bin", /^pgsql-/),
    ...children("/opt/homebrew/opt", "bin", /^postgresql/),
    ...children("/usr/local/opt", "bin", /^postgresql/),
  ];
  return Math.max(
    0,
    ...folders
      .map((folder) => join(folder, "postgres"))
      .filter(isExecutable)
      .map((file) =>
        Number(/(\d+)/.exec(spawnSync(file, ["--version"], { encoding: "utf8" }).stdout ?? "")?.[1] ?? 0),
      ),
  );
}

function children(folder, inner, pattern = /./) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => pattern.test(name))
    .map((name) => join(folder, name, inner));
}

export function onPath(name) {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => isExecutable(join(folder, name)));
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

function instructions(missing) {
  const names = (system) => missing.map((server) => server[system]).join(" ");
  const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
  const byHand = "nats-server, where no package has it: https://github.com/nats-io/nats-server/releases";
  const lines = {
    macOS: `brew install ${names("brew")}`,
    "Debian, Ubuntu": `sudo apt-get install ${names("debian")}`,
    "Fedora, RHEL": `sudo dnf install ${names("dnf")}`,
    Arch: `sudo pacman -S ${names("pacman")}`,
    openSUSE: `sudo zypper install ${names("zypper")}`,
  };
  const system =
    process.platform === "darwin"
      ? "macOS"
      : /\b(debian|ubuntu)\b/.test(release)
        ? "Debian, Ubuntu"
        : /\b(fedora|rhel)\b/.test(release)
          ? "Fedora, RHEL"
          : /\barch\b/.test(release)
            ? "Arch"
            : /\bsuse\b/.test(release)
              ? "openSUSE"
              : null;
  const shown = system === null ? Object.entries(lines) : [[system, lines[system]]];
  const old = newestPostgres();
  return [
    `Please install ${missing.map((server) => server.label).join(", ")}, then run this again:`,
    ...shown.map(([name, command]) => `  ${name}: ${command}`),
    ...(old > 0 && old < OLDEST_POSTGRES
      ? [`  PostgreSQL ${old} is too old; newer ones: https://www.postgresql.org/download/`]
      : []),
    ...(missing.some((server) => server.label === "nats-server") ? [`  ${byHand}`] : []),
  ].join("\n");
}
