/**
 * The application of one Pod, in place of GitLab's web and Git servers. It knows nothing of Cleave but that a store
 * may refuse a write: wrong Pod, or read-only for a moment.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import pg from "pg";
import { ZodError } from "zod";
import { findRepository, handleGit } from "./git.ts";
import {
  changeIssue,
  createIssue,
  deleteIssue,
  findIssue,
  IssueChange,
  NewIssue,
  warmStatements,
} from "./issues.ts";
import { bodyOf, handleObject } from "./objects.ts";
import type { PodAppOptions } from "./options.ts";
import { refusalOf, refuse } from "./refusal.ts";

/** More at once would not be faster on a few processors, and each that is made when it is needed costs 20 ms. */
const CONNECTIONS = 8;
const WARM_UP_EVERY_MS = 2_000;

export interface PodApp {
  readonly port: number;
  close(): Promise<void>;
}

export async function startPodApp(options: PodAppOptions): Promise<PodApp> {
  const pool = new pg.Pool({
    ...options.database,
    max: CONNECTIONS,
    application_name: "pod-app",
    connectionTimeoutMillis: 10_000,
  });
  survive(pool);
  // Long-open transactions must not take the connections of the others.
  const slowPool = new pg.Pool({
    ...options.database,
    max: 8,
    application_name: "pod-app-long",
    connectionTimeoutMillis: 10_000,
  });
  survive(slowPool);
  // As every application server does: connections are made, and their loss noticed, before requests need them.
  const warmUp = setInterval(() => {
    for (let i = 0; i < CONNECTIONS; i += 1) pool.query("SELECT 1").catch(() => undefined);
  }, WARM_UP_EVERY_MS);
  // Once for each, also on a replica that cannot be written yet: what the first write would wait for.
  pool.on("connect", (client) => void warmStatements(client).catch(() => undefined));
  const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    handle({ options, pool, slowPool }, request, response).catch((error: unknown) => {
      const refusal = refusalOf(error);
      if (response.headersSent) response.destroy();
      else if (refusal) refuse(response, refusal);
      else if (error instanceof ZodError || error instanceof SyntaxError || error instanceof URIError)
        response.writeHead(400).end(error.message);
      else {
        console.error(`${request.method} ${request.url}:`, error);
        response.writeHead(500).end();
      }
    });
  });
  await new Promise<void>((resolve, reject) =>
    server.once("error", reject).listen(options.port, options.host, resolve),
  );
  const address = server.address();
  return {
    port: typeof address === "object" && address ? address.port : options.port,
    close: async () => {
      clearInterval(warmUp);
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
      await Promise.all([pool.end(), slowPool.end()]);
    },
  };
}

/** The server may be stopped, promoted or not there yet, and may end a transaction in which we say nothing just now. */
function survive(pool: pg.Pool): void {
  pool.on("error", () => undefined);
  // The next query on it fails, and says why.
  pool.on("connect", (client) => client.on("error", () => undefined));
}

interface Context {
  readonly options: PodAppOptions;
  readonly pool: pg.Pool;
  readonly slowPool: pg.Pool;
}

async function handle(context: Context, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { options, pool } = context;
  const url = new URL(request.url ?? "/", "http://pod");
  response.setHeader("cleave-served-by", options.podId);
  if (url.pathname === "/health") {
    response.end("ok");
    return;
  }
  const [, root, organization, kind, ...rest] = url.pathname.split("/").map(decodeURIComponent);
  if (root !== "organizations" || !organization || !/^\d{1,18}$/.test(organization)) {
    response.writeHead(404).end();
    return;
  }
  if (kind === "objects") return await handleObject(options, organization, rest.join("/"), request, response);
  if (kind === "repositories") {
    const repository = await findRepository(pool, options.gitRoot, organization, rest[0] ?? "");
    return await handleGit(repository, rest.slice(1).join("/"), url.searchParams, request, response);
  }
  if (kind === "issues") return await handleIssues(context, organization, rest[0], request, response);
  response.writeHead(404).end();
}

async function handleIssues(
  context: Context,
  organization: string,
  writeId: string | undefined,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { options, pool, slowPool } = context;
  const answer = (status: number, body: object = {}) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(status === 204 ? undefined : JSON.stringify({ podId: options.podId, ...body }));
  };
  const json = async () => JSON.parse((await bodyOf(request)).toString("utf8")) as unknown;
  if (request.method === "POST" && writeId === undefined) {
    const issue = NewIssue.parse(await json());
    const status = await createIssue(issue.holdOpenMs > 0 ? slowPool : pool, organization, issue);
    return answer(status, { writeId: issue.writeId, revision: 1 });
  }
  if (writeId === undefined) return answer(405);
  switch (request.method) {
    case "PUT": {
      const change = IssueChange.parse(await json());
      return answer(await changeIssue(pool, organization, writeId, change), {
        writeId,
        revision: change.revision,
      });
    }
    case "DELETE":
      return answer(await deleteIssue(pool, organization, writeId));
    case "GET": {
      const found = await findIssue(pool, organization, writeId);
      return found ? answer(200, { writeId, ...found }) : answer(404);
    }
    default:
      return answer(405);
  }
}
