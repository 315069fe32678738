/** Git's smart HTTP protocol for reading, as a server: what the backend answers becomes the body. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import type { RepositoryServing } from "../backend/backend.ts";

/** Longer than any fetch of a sane repository takes without a byte going either way. */
const SILENT_MS = 10 * 60_000;

function protocolOf(request: IncomingMessage): string {
  const asked = request.headers["git-protocol"];
  return typeof asked === "string" && /^[a-z0-9=:.-]{1,100}$/.test(asked) ? asked : "";
}

/** A body that fails ends the connection, so that the reader sees a failure. */
function answer(body: Readable, response: ServerResponse, type: string): void {
  response.setTimeout(SILENT_MS, () => response.destroy());
  response.on("close", () => body.destroy());
  body.on("error", () => response.destroy());
  response.writeHead(200, { "content-type": type, "cache-control": "no-store" });
  body.pipe(response);
}

export function answerAdvertisement(
  backend: RepositoryServing,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const body = backend.advertiseRefs(path, protocolOf(request));
  answer(body, response, "application/x-git-upload-pack-advertisement");
}

export function answerUploadPack(
  backend: RepositoryServing,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const zipped = /\bgzip\b/.test(request.headers["content-encoding"] ?? "");
  const asked = zipped ? request.pipe(createGunzip()) : request;
  request.on("error", () => response.destroy());
  const body = backend.uploadPack(path, protocolOf(request), asked);
  answer(body, response, "application/x-git-upload-pack-result");
}
