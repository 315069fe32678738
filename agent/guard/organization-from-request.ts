/**
 * What a proxy asks the guard: which organization, and is it a write. Everything here comes from the outside and is
 * hostile: what cannot be read without doubt is refused, since an application might read it in another way.
 */
import type { IncomingHttpHeaders } from "node:http";
import { CleaveError } from "../../protocol/errors.ts";
import { OrganizationId } from "../../protocol/ids.ts";
import type { GuardConfig } from "./config.ts";

/** Longer than any proxy's default for a request line; bounds the work of every rule. */
const MAX_URI_LENGTH = 8_192;
/** Git's smart HTTP: fetching posts, and the first step of a push is a GET. */
const BUILT_IN_READS = ["^POST [^?]*/git-upload-pack$"];
const BUILT_IN_WRITES = ["^GET [^?]*/info/refs\\?(?:[^#]*&)?service=git-receive-pack(?:&|$)"];
/** Methods that read (RFC 9110, "safe"). TRACE is left out: nobody needs it. */
const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS"]);

/** Configured rules, compiled once. */
export interface GuardRules {
  readonly paths: readonly RegExp[];
  readonly reads: readonly RegExp[];
  readonly writes: readonly RegExp[];
  readonly trustOrganizationHeader: boolean;
}

/** @throws SyntaxError never for a parsed GuardConfig. */
export function compileRules(config: GuardConfig): GuardRules {
  const compile = (sources: readonly string[]) => sources.map((source) => new RegExp(source, "u"));
  return {
    paths: compile(config.paths),
    reads: compile([...BUILT_IN_READS, ...config.reads]),
    writes: compile([...BUILT_IN_WRITES, ...config.writes]),
    trustOrganizationHeader: config.trustOrganizationHeader,
  };
}

/** The original request, as a proxy described it. `method` is null when it did not say. */
export interface OriginalRequest {
  readonly method: string | null;
  /** Path and query; null when the proxy names the organization alone. */
  readonly uri: string | null;
}

export interface Question {
  /** Null: the request concerns no organization. */
  readonly organizationId: OrganizationId | null;
  readonly write: boolean;
}

/**
 * The original request from the headers of nginx (`X-Original-*`) or of Traefik and Caddy (`X-Forwarded-*`).
 * A proxy sets its own and passes on what a client sent: when both are there they have to agree.
 * @throws CleaveError REQUEST_INVALID
 */
export function originalFromHeaders(headers: IncomingHttpHeaders): OriginalRequest {
  return {
    method: agreed(headers, "x-original-method", "x-forwarded-method"),
    uri: agreed(headers, "x-original-uri", "x-forwarded-uri"),
  };
}

/** @throws CleaveError REQUEST_INVALID: whoever gets it refuses the request. */
export function questionOf(
  original: OriginalRequest,
  headers: IncomingHttpHeaders,
  rules: GuardRules,
): Question {
  const named = rules.trustOrganizationHeader ? one(headers, "x-cleave-organization") : null;
  if (original.uri === null && named === null)
    throw malformed("the request names neither an original path nor an organization");
  const inPath = original.uri === null ? null : organizationOf(original.uri, rules);
  const inHeader = named === null ? null : parseOrganization(named);
  if (inPath !== null && inHeader !== null && inPath !== inHeader)
    throw malformed("the path and X-Cleave-Organization name different organizations");
  return { organizationId: inPath ?? inHeader, write: isWrite(original, rules) };
}

/**
 * The organization that a path names, or null when no rule matches.
 * @throws CleaveError REQUEST_INVALID
 */
export function organizationOf(uri: string, rules: Pick<GuardRules, "paths">): OrganizationId | null {
  const path = pathOf(uri);
  const raw = matched(path, rules.paths);
  if (raw !== null) return parseOrganization(decoded(raw));
  if (!path.includes("%")) return null;
  // `/%6Frganizations/42`: no organization to us, and one to an application that decodes before it routes.
  if (matched(collapsed(decoded(path)), rules.paths) !== null)
    throw malformed("the path names an organization only after decoding");
  return null;
}

/** A method that is not known to read is a write: also when the proxy did not say which it was. */
export function isWrite(
  { method, uri }: OriginalRequest,
  rules: Pick<GuardRules, "reads" | "writes">,
): boolean {
  if (method === null) return true;
  if (!/^[A-Za-z-]{1,30}$/.test(method)) throw malformed("the method is not a method");
  const line = `${method} ${uri ?? ""}`;
  if (rules.writes.some((rule) => rule.test(line))) return true;
  if (SAFE_METHODS.has(method)) return false;
  return !rules.reads.some((rule) => rule.test(line));
}

function pathOf(uri: string): string {
  if (uri.length > MAX_URI_LENGTH)
    throw new CleaveError("REQUEST_INVALID", `a path of more than ${MAX_URI_LENGTH} characters`);
  if (uri === "*") return uri;
  if (!uri.startsWith("/")) throw malformed("the path does not begin with a slash");
  const path = uri.split(/[?#]/, 1)[0] as string;
  if (path.includes("\\")) throw malformed("the path has a backslash");
  if (/[\u0000-\u001f\u007f]/.test(path)) throw malformed("the path has control characters");
  // Whoever serves the request may resolve them, and would then serve another path than the one asked for here.
  if (/(?:^|\/)(?:\.|%2e){1,2}(?:\/|$)/i.test(path)) throw malformed("the path has dot segments");
  return collapsed(path);
}

/** `//organizations//42` is the same path to most servers. */
function collapsed(path: string): string {
  return path.replace(/\/{2,}/g, "/");
}

function matched(path: string, rules: readonly RegExp[]): string | null {
  for (const rule of rules) {
    const organization = rule.exec(path)?.groups?.["organization"];
    if (organization !== undefined) return organization;
  }
  return null;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw malformed("the path is not well-formed URL encoding");
  }
}

/** @throws CleaveError REQUEST_INVALID */
export function parseOrganization(text: string): OrganizationId {
  const parsed = OrganizationId.safeParse(text);
  if (parsed.success) return parsed.data;
  throw malformed(parsed.error.issues[0]?.message ?? "not an organization id");
}

function one(headers: IncomingHttpHeaders, name: string): string | null {
  const value = headers[name];
  if (Array.isArray(value)) throw malformed(`the header ${name} is there more than once`);
  return value === undefined || value === "" ? null : value;
}

function agreed(headers: IncomingHttpHeaders, first: string, second: string): string | null {
  const [a, b] = [one(headers, first), one(headers, second)];
  if (a !== null && b !== null && a !== b) throw malformed(`the headers ${first} and ${second} differ`);
  return a ?? b;
}

function malformed(why: string): CleaveError {
  return new CleaveError("REQUEST_INVALID", why);
}
