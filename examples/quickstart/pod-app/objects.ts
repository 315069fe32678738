/** Uploads: files below the object root, written as any careful program does (temporary file, sync, rename). */

import { randomUUID } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, open, rename, rm, unlink } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { withWriteIntent } from "../../../agent/stores/file-fence/write-intent.ts";
import type { PodAppOptions } from "./options.ts";

const SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}$/;

export async function handleObject(
  options: PodAppOptions,
  organization: string,
  name: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const segments = name.split("/");
  if (!segments.every((segment) => SEGMENT.test(segment)) || !SEGMENT.test(organization)) {
    response.writeHead(400).end("not an object's name");
    return;
  }
  const key = ["uploads", organization, ...segments].join("/");
  const path = join(options.objectRoot, key);
  if (request.method === "GET" || request.method === "HEAD") return await read(path, response);
  if (request.method !== "PUT" && request.method !== "DELETE") {
    response.writeHead(405).end();
    return;
  }
  const body = await bodyOf(request);
  const change = async () => (request.method === "PUT" ? await write(path, body) : await remove(path));
  // Without an agent there is no fence to ask.
  const status = existsSync(options.control)
    ? await withWriteIntent(
        {
          control: options.control,
          store: "objects",
          key,
          organizationId: organization,
          change: request.method === "DELETE" ? "delete" : "write",
        },
        change,
      )
    : await change();
  response.writeHead(status).end();
}

async function read(path: string, response: ServerResponse): Promise<void> {
  const stream = createReadStream(path);
  try {
    await new Promise((resolve, reject) => stream.once("open", resolve).once("error", reject));
  } catch (error) {
    response.writeHead((error as NodeJS.ErrnoException).code === "ENOENT" ? 404 : 500).end();
    return;
  }
  response.writeHead(200, { "content-type": "application/octet-stream" });
  await pipeline(stream, response);
}

async function write(path: string, body: Buffer): Promise<number> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = join(dirname(path), `.cleave-tmp-${randomUUID()}`);
  const file = await open(temporary, "wx");
  try {
    await file.writeFile(body);
    await file.sync();
    await file.close();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  return 201;
}

async function remove(path: string): Promise<number> {
  try {
    await unlink(path);
    return 204;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return 404;
    throw error;
  }
}

export async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
