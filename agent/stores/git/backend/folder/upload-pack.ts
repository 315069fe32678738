/** Git's smart HTTP protocol for reading: two requests, each answered by one `git upload-pack`. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { createGunzip } from "node:zlib";
import { endGit, type GitChild, type GitOptions, spawnGit } from "./run-git.ts";

/** Longer than any fetch of a sane repository takes without a byte going either way. */
const SILENT_MS = 10 * 60_000;

/** Hidden refs are refs too: a repository is whole or it is not copied. */
const SHOW_ALL = [
  ["transfer.hideRefs", "!refs"],
  ["uploadpack.hideRefs", "!refs"],
  ["uploadpack.allowAnySHA1InWant", "true"],
  ["uploadpack.allowFilter", "false"],
] as const;

function start(directory: string, git: GitOptions, request: IncomingMessage, advertise: boolean): GitChild {
  const asked = request.headers["git-protocol"];
  const protocol = typeof asked === "string" && /^[a-z0-9=:.-]{1,100}$/.test(asked) ? asked : "";
  const options = ["--strict", "--stateless-rpc", ...(advertise ? ["--advertise-refs"] : [])];
  return spawnGit(["upload-pack", ...options, directory], {
    ...git,
    config: [...(git.config ?? []), ...SHOW_ALL],
    environment: protocol === "" ? {} : { GIT_PROTOCOL: protocol },
  });
}

/** Streams git's output as the answer. A git that fails ends the connection, so that the reader sees a failure. */
function answer(child: GitChild, response: ServerResponse, type: string, head: string): void {
  response.setTimeout(SILENT_MS, () => response.destroy());
  response.on("close", () => endGit(child));
  response.writeHead(200, { "content-type": type, "cache-control": "no-store" });
  response.write(head);
  child.stdout.pipe(response, { end: false });
  child.stderr.resume();
  child.on("error", () => response.destroy());
  child.on("close", (code) => {
    if (code === 0) response.end();
    else response.destroy();
  });
}

export function advertiseRefs(
  directory: string,
  git: GitOptions,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const child = start(directory, git, request, true);
  child.stdin.on("error", () => undefined);
  child.stdin.end();
  const head = "001e# service=git-upload-pack\n0000";
  answer(child, response, "application/x-git-upload-pack-advertisement", head);
}

export function uploadPack(
  directory: string,
  git: GitOptions,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const child = start(directory, git, request, false);
  child.stdin.on("error", () => undefined);
  const zipped = /\bgzip\b/.test(request.headers["content-encoding"] ?? "");
  const body = zipped ? request.pipe(createGunzip()) : request;
  body.on("error", () => response.destroy());
  request.on("error", () => response.destroy());
  body.pipe(child.stdin);
  answer(child, response, "application/x-git-upload-pack-result", "");
}
