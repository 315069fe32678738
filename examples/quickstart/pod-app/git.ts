/** Git over smart HTTP: fetches are streamed, pushes are answered whole, so that a refusal can be a status. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { createGunzip } from "node:zlib";
import type { PodAppOptions } from "./options.ts";
import { refusalInPush, refuse } from "./refusal.ts";

const SERVICES = new Set(["git-upload-pack", "git-receive-pack"]);

/** `project` is the decimal id; its repository lies where GitLab's hashed storage would put it. */
export function repositoryPath(gitRoot: string, project: string): string {
  const hash = createHash("sha256").update(project).digest("hex");
  return join(gitRoot, "@hashed", hash.slice(0, 2), hash.slice(2, 4), `${hash}.git`);
}

export async function handleGit(
  options: PodAppOptions,
  project: string,
  rest: string,
  query: URLSearchParams,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const repository = repositoryPath(options.gitRoot, project);
  if (!/^\d+$/.test(project) || !existsSync(repository)) {
    response.writeHead(404).end();
    return;
  }
  if (request.method === "GET" && rest === "info/refs") {
    const service = query.get("service") ?? "";
    if (!SERVICES.has(service)) {
      response.writeHead(403).end("only smart HTTP");
      return;
    }
    const { output } = await run(
      service,
      ["--http-backend-info-refs", repository],
      null,
      request.headers["git-protocol"],
    );
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
  const { output } = await run(
    rest,
    ["--stateless-rpc", repository],
    request,
    request.headers["git-protocol"],
  );
  const refusal = rest === "git-receive-pack" ? refusalInPush(output) : null;
  if (refusal) return refuse(response, refusal);
  response.writeHead(200, { "content-type": `application/x-${rest}-result`, "cache-control": "no-cache" });
  response.end(output);
}

function run(
  service: string,
  args: string[],
  request: IncomingMessage | null,
  protocol: string | string[] | undefined,
): Promise<{ output: Buffer }> {
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
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  child.stderr.resume();
  // Git may answer before it has read everything; what it no longer wants is no error of ours.
  child.stdin.on("error", () => undefined);
  if (request === null) child.stdin.end();
  else
    (request.headers["content-encoding"] === "gzip" ? request.pipe(createGunzip()) : request).pipe(
      child.stdin,
    );
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => resolve({ output: Buffer.concat(chunks) }));
  });
}
