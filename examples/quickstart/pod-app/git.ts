/** Git over smart HTTP: fetches are streamed, pushes are answered whole, so that a refusal can be a status. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import type pg from "pg";
import { refusalInPush, refuse } from "./refusal.ts";

const SERVICES = new Set(["git-upload-pack", "git-receive-pack"]);

/** `project` is the decimal id; its repository lies where GitLab's hashed storage would put it. */
export function repositoryPath(gitRoot: string, project: string): string {
  const hash = createHash("sha256").update(project).digest("hex");
  return join(gitRoot, "@hashed", hash.slice(0, 2), hash.slice(2, 4), `${hash}.git`);
}

/** The folder of `ID.git` or `ID.wiki.git` if that project is the organization's; otherwise null. */
export async function findRepository(
  pool: pg.Pool,
  gitRoot: string,
  organization: string,
  name: string,
): Promise<string | null> {
  const [, project, wiki] = /^(\d{1,18})(\.wiki)?\.git$/.exec(name) ?? [];
  if (project === undefined) return null;
  const { rows } = await pool.query<{ path: string }>(
    `SELECT r.disk_path AS path FROM public.project_repositories r JOIN public.projects p ON p.id = r.project_id
      WHERE p.id = $1 AND p.organization_id = $2 AND (p.has_wiki OR NOT $3)`,
    [project, organization, wiki !== undefined],
  );
  const folder = rows[0] && join(gitRoot, `${rows[0].path}${wiki ?? ""}.git`);
  return folder !== undefined && existsSync(folder) ? folder : null;
}

export async function handleGit(
  repository: string | null,
  rest: string,
  query: URLSearchParams,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const protocol = request.headers["git-protocol"];
  if (repository === null) {
    response.writeHead(404).end();
    return;
  }
  if (request.method === "GET" && rest === "info/refs") {
    const service = query.get("service") ?? "";
    if (!SERVICES.has(service)) {
      response.writeHead(403).end("only smart HTTP");
      return;
    }
    const args = ["--http-backend-info-refs", repository];
    const { output, errors, code } = await endOf(start(service, args, null, protocol));
    if (code !== 0) throw new Error(`git ended with ${code}: ${errors.trim()}`);
    const line = `# service=${service}\n`;
    response.writeHead(200, {
      "content-type": `application/x-${service}-advertisement`,
      "cache-control": "no-cache",
    });
    response.end(
      Buffer.concat([Buffer.from(`${(line.length + 4).toString(16).padStart(4, "0")}${line}0000`), output]),
    );
    return;
  }
  if (request.method !== "POST" || !SERVICES.has(rest)) {
    response.writeHead(404).end();
    return;
  }
  const child = start(rest, ["--stateless-rpc", repository], request, protocol);
  const headers = { "content-type": `application/x-${rest}-result`, "cache-control": "no-cache" };
  if (rest === "git-upload-pack") {
    response.writeHead(200, headers);
    child.stderr.resume();
    // Whoever went away is not waited for; git notices by its closed output.
    await pipeline(child.stdout, response).catch(() => child.kill());
    return;
  }
  const { output, errors, code } = await endOf(child);
  const refusal = refusalInPush(output, errors);
  if (refusal) return refuse(response, refusal);
  if (output.length === 0 && code !== 0) throw new Error(`git ended with ${code}: ${errors.trim()}`);
  response.writeHead(200, headers).end(output);
}

function start(
  service: string,
  args: readonly string[],
  request: IncomingMessage | null,
  protocol: string | string[] | undefined,
): ChildProcessByStdio<Writable, Readable, Readable> {
  const env: NodeJS.ProcessEnv = {
    PATH: process.env["PATH"],
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_COUNT: "2",
    GIT_CONFIG_KEY_0: "safe.directory",
    GIT_CONFIG_VALUE_0: "*",
    GIT_CONFIG_KEY_1: "receive.autogc",
    GIT_CONFIG_VALUE_1: "false",
    ...(typeof protocol === "string" ? { GIT_PROTOCOL: protocol } : {}),
  };
  const child = spawn("git", [service.replace(/^git-/, ""), ...args], {
    env,
    stdio: ["pipe", "pipe", "pipe"],
  });
  // Git may answer before it has read everything; what it no longer wants is no error of ours.
  child.stdin.on("error", () => undefined);
  if (request === null) child.stdin.end();
  else if (request.headers["content-encoding"] === "gzip")
    pipeline(request, createGunzip(), child.stdin).catch(() => child.stdin.destroy());
  else pipeline(request, child.stdin).catch(() => child.stdin.destroy());
  return child;
}

interface Ended {
  readonly code: number | null;
  readonly output: Buffer;
  /** The end of its standard error. */
  readonly errors: string;
}

async function endOf(child: ChildProcessByStdio<Writable, Readable, Readable>): Promise<Ended> {
  const chunks: Buffer[] = [];
  let errors = "";
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString("latin1")).slice(-4_000);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  return { code, output: Buffer.concat(chunks), errors };
}
