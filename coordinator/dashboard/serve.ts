/** The dashboard: a page that asks the API as everybody else does. Its files tell nothing, so they need no token. */
import { join } from "node:path";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { loadPage, type PageFiles } from "./bundle.ts";

const FOLDER = join(import.meta.dirname, "page");

/** Nothing from elsewhere, nothing inline: what an operator's page shows comes from many machines. */
const HEADERS = {
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; "),
  "x-content-type-options": "nosniff",
  // Not `no-referrer`: a browser would then send `Origin: null` with commands.
  "referrer-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-cache",
};

/** `/dashboard/` and its files; `/` leads there. */
export function registerDashboard(app: FastifyInstance): void {
  let page: Promise<PageFiles> | null = null;
  const send = async (name: string, request: FastifyRequest, reply: FastifyReply) => {
    page ??= loadPage(FOLDER);
    // What failed once (a file was being replaced) is tried again for the next one who asks.
    const files = await page.catch((error: unknown) => {
      page = null;
      throw error;
    });
    const file = files.get(name);
    if (file === undefined) return reply.callNotFound();
    reply.headers(HEADERS).header("etag", file.etag);
    if (request.headers["if-none-match"] === file.etag) return reply.status(304).send();
    return reply.type(file.type).send(file.content);
  };
  const options = { schema: { hide: true } };
  app.get("/", options, (_request, reply) => reply.redirect("/dashboard/"));
  app.get("/dashboard", options, (_request, reply) => reply.redirect("/dashboard/"));
  app.get("/dashboard/", options, (request, reply) => send("index.html", request, reply));
  app.get<{ Params: { file: string } }>("/dashboard/:file", options, (request, reply) =>
    send(request.params.file, request, reply),
  );
}
