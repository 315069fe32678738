/** Under which system user PostgreSQL's programs run: they refuse root. */
import { execFile } from "node:child_process";
import { chown } from "node:fs/promises";
import { promisify } from "node:util";
import { CleaveError } from "../../../../protocol/errors.ts";

export interface SystemUser {
  readonly uid: number;
  readonly gid: number;
}

const run = promisify(execFile);

/**
 * The user to start programs as, or null for the agent's own (only root can become another).
 * @throws CleaveError CONFIG_INVALID when there is no such user.
 */
export async function resolveRunAs(name: string | undefined): Promise<SystemUser | null> {
  if (process.getuid?.() !== 0) return null;
  const user = name ?? "postgres";
  try {
    const [uid, gid] = await Promise.all(
      ["-u", "-g"].map(async (flag) => Number((await run("id", [flag, "--", user])).stdout.trim())),
    );
    if (!Number.isInteger(uid) || !Number.isInteger(gid)) throw new Error("no number");
    return { uid: uid as number, gid: gid as number };
  } catch (error) {
    throw new CleaveError("CONFIG_INVALID", `postgres.runAs: there is no system user ${user}`, {
      cause: error,
    });
  }
}

/** Hands a file or folder to the user that PostgreSQL runs as. */
export async function giveTo(user: SystemUser | null, path: string): Promise<void> {
  if (user !== null) await chown(path, user.uid, user.gid);
}

/** What `spawn` needs to start a program as that user, with an environment that holds nothing by accident. */
export function spawnIdentity(
  user: SystemUser | null,
  environment: Readonly<Record<string, string>> = {},
): { uid?: number; gid?: number; env: Record<string, string> } {
  return {
    ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
    // Messages are parsed, so they must not be translated.
    env: {
      PATH: process.env["PATH"] ?? "/usr/bin:/bin",
      LC_MESSAGES: "C",
      ...(process.env["TZ"] === undefined ? {} : { TZ: process.env["TZ"] }),
      ...environment,
    },
  };
}
