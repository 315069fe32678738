/** Who asks, and what they may: bearer tokens, each with a role. */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { CleaveError } from "../../protocol/errors.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import { type AccessToken, ROLES, type Role } from "./roles.ts";

export interface Caller {
  /** As it is written into the log: `operator:<name>`. */
  readonly by: string;
  readonly role: Role;
}

declare module "fastify" {
  interface FastifyRequest {
    /** Of routes that have a role; set before anything of the request but its head is read. */
    caller: Caller;
    /** Why it was refused, for the log of this process. */
    refusal?: { readonly code: string; readonly message: string };
  }
  interface FastifyContextConfig {
    /** The least that is needed. A route without one is not accepted. */
    role?: Role;
  }
}

/**
 * Makes every route of a context ask for its role.
 * @param tokens none: nobody is asked who they are, and everybody may everything
 * @throws CleaveError INTERNAL when a route is registered without a role
 */
export function guardRoutes(routes: FastifyInstance, tokens: readonly AccessToken[], logger: Logger): void {
  const holderOf = finder(tokens);
  routes.decorateRequest("caller");
  routes.addHook("onRoute", (route) => {
    const role = route.config?.role;
    if (role === undefined) throw new CleaveError("INTERNAL", `${route.url} says no role`);
    const { schema } = route;
    if (schema?.summary !== undefined && !schema.description?.includes(NEEDS))
      route.schema = {
        ...schema,
        description: `${schema.description === undefined ? "" : `${schema.description} `}${NEEDS} \`${role}\`.`,
      };
  });
  // The checks hang on the routes themselves: a path can be written in more ways than one (`/%761/status`).
  routes.addHook("onRequest", async (request) => {
    request.caller = callerOf(request, tokens.length, holderOf);
    requireRole(request.caller, request.routeOptions.config.role ?? "admin");
  });
  // What was decided is in the log with its author. What was refused is not, and somebody may want to know.
  routes.addHook("onResponse", async (request, reply) => {
    if (request.method === "GET" || request.method === "HEAD") return;
    const about = { by: request.caller?.by ?? null, command: request.url, status: reply.statusCode };
    if (reply.statusCode < 400) logger.info(about, "a command was accepted");
    else logger.warn({ ...about, code: request.refusal?.code }, request.refusal?.message ?? "refused");
  });
}

const NEEDS = "Needs the role";

/** @throws CleaveError FORBIDDEN when the caller may less than `role`. */
export function requireRole(caller: Caller, role: Role): void {
  if (ROLES.indexOf(caller.role) >= ROLES.indexOf(role)) return;
  throw new CleaveError("FORBIDDEN", `${caller.by} is ${caller.role}, and this needs ${role}`);
}

/** @throws CleaveError UNAUTHORIZED, or REQUEST_INVALID for a command that a browser's page of elsewhere sends. */
function callerOf(
  request: FastifyRequest,
  known: number,
  holderOf: (token: string) => AccessToken | null,
): Caller {
  if (known === 0) {
    requireOwnPage(request);
    return { by: `operator:${selfStyled(request)}`, role: "admin" };
  }
  const [, given] = /^Bearer ([\x21-\x7e]+)$/.exec(request.headers.authorization ?? "") ?? [];
  const holder = given === undefined ? null : holderOf(given);
  if (holder === null) throw new CleaveError("UNAUTHORIZED", "the request carries no valid bearer token");
  // Whoever has a name cannot choose another one.
  return { by: `operator:${holder.name ?? selfStyled(request)}`, role: holder.role };
}

/** The `X-Cleave-Operator` header; anything outside plain text is dropped. */
function selfStyled({ headers }: FastifyRequest): string {
  const name = headers["x-cleave-operator"];
  const plain = typeof name === "string" ? name.replace(/[^\w.@ -]/g, "").slice(0, 100) : "";
  return plain === "" ? "unnamed" : plain;
}

const LOOPBACK = /^(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?$/;

/**
 * Without a token every page that is open in a browser of this machine could send commands here. One that was itself
 * loaded from here is none of those, as long as its name is no other's that was made to point here.
 */
function requireOwnPage({ method, headers, protocol }: FastifyRequest): void {
  const { origin, host = "" } = headers;
  if (method === "GET" || method === "HEAD" || origin === undefined) return;
  if (LOOPBACK.test(host) && origin === `${protocol}://${host}`) return;
  throw new CleaveError("REQUEST_INVALID", "commands from a browser's page need a token to be configured");
}

/** Compares digests under a key of this process, and all of them: how long it takes says nothing of any token. */
function finder(tokens: readonly AccessToken[]): (given: string) => AccessToken | null {
  const key = randomBytes(32);
  const digest = (token: string) => createHmac("sha256", key).update(token).digest();
  const known = tokens.map((holder) => ({ holder, digest: digest(holder.token) }));
  return (given) => {
    const wanted = digest(given);
    let found: AccessToken | null = null;
    for (const one of known) if (timingSafeEqual(one.digest, wanted)) found = one.holder;
    return found;
  };
}
