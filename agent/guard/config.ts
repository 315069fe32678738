/** The `guard` part of an agent's configuration: how requests name organizations, and how long they may be held. */
import { z } from "zod";

/** Long enough for any sensible rule; a rule is written by an operator and compiled once. */
const MAX_PATTERN_LENGTH = 500;
/** A group that repeats inside and is repeated outside: on a hostile path it can take for ever. */
const NESTED_REPETITION = /\([^()]*(?:[+*]|\{\d+,)[^()]*\)(?:[+*]|\{\d)/;

const Pattern = z
  .string()
  .min(1)
  .max(MAX_PATTERN_LENGTH)
  .superRefine((source, context) => {
    if (NESTED_REPETITION.test(source))
      context.addIssue("a repetition within a repetition can take for ever");
    try {
      new RegExp(source, "u");
    } catch (error) {
      context.addIssue(error instanceof Error ? error.message : String(error));
    }
  });

const PathPattern = Pattern.refine(
  (source) => source.includes("(?<organization>"),
  "needs a named group: (?<organization>…)",
);

const milliseconds = z.number().int().nonnegative().max(300_000);

export const GuardConfig = z.strictObject({
  /** Tried in order against a request's path; the group `organization`, URL-decoded, is the organization's id. */
  paths: z.array(PathPattern).min(1).max(50).default(["^/organizations/(?<organization>[^/]+)"]),
  /** Requests that only read although their method is not GET, HEAD or OPTIONS. Matched against `METHOD path?query`. */
  reads: z.array(Pattern).max(50).default([]),
  /** Requests that write although their method is GET, HEAD or OPTIONS. These win over `reads`. */
  writes: z.array(Pattern).max(50).default([]),
  /**
   * Whether `X-Cleave-Organization` is believed. Only behind a proxy that sets or removes it: otherwise a client
   * could name another organization than the one it writes to.
   */
  trustOrganizationHeader: z.boolean().default(false),
  /** How long a fenced write waits for its outcome when the request does not say (`Cleave-Hold-Ms`). 0: not at all. */
  holdMs: milliseconds.default(0),
  /** The longest that a request may ask for. */
  maxHoldMs: milliseconds.default(30_000),
  /** Requests held at once; one more is answered at once. */
  maxHeld: z.number().int().nonnegative().max(100_000).default(2_000),
  /** The `Retry-After` of a refusal, at most. */
  retryAfterSeconds: z.number().int().positive().max(600).default(1),
  /** For how long routers may keep an answer of `/guard/route`. */
  routeMaxAgeSeconds: z.number().int().nonnegative().max(86_400).default(5),
});
export type GuardConfig = z.infer<typeof GuardConfig>;
