/** The `hooks` and `checks` parts of an agent's configuration: what operators add to a migration on this Pod. */
import { z } from "zod";

/** In the order in which they come. */
export const HookPoint = z.enum([
  "beforeFence",
  "fenced",
  "transferred",
  "opened",
  "aborted",
  "beforeRemoval",
]);
export type HookPoint = z.infer<typeof HookPoint>;

export const Role = z.enum(["source", "target"]);
const Name = z.string().regex(/^[a-z0-9-]{1,60}$/, "a name is 1 to 60 lower-case letters, digits and dashes");
/** A program with its arguments; no shell reads them. */
const Command = z.array(z.string().max(4_000)).min(1).max(100);
/** The longest that one in the read-only window may be given. */
const FENCED_LIMIT_MS = 30_000;

export const HookConfig = z
  .strictObject({
    /** Names it in logs, findings and problems. */
    name: Name,
    /** When it is called. */
    at: HookPoint,
    /** Only where this Pod is the source, or a target; without it, either. */
    role: Role.optional(),
    /** Called by POST; 2xx is success. */
    url: z.url({ protocol: /^https?$/ }).optional(),
    /** Or a program; it ends with 0 for success. */
    command: Command.optional(),
    /** After this long a call has failed. Of a `fenced` hook: what it may add to the read-only window. */
    timeLimitMs: z.number().int().min(10).max(600_000).default(2_000),
  })
  .refine(({ url, command }) => (url === undefined) !== (command === undefined), {
    error: "give either url or command",
  })
  .refine(({ at, timeLimitMs }) => at !== "fenced" || timeLimitMs <= FENCED_LIMIT_MS, {
    error: `of a fenced hook is at most ${FENCED_LIMIT_MS}: organizations are read-only meanwhile`,
    path: ["timeLimitMs"],
  });
export type HookConfig = z.infer<typeof HookConfig>;

export const CheckConfig = z
  .strictObject({
    name: Name,
    /**
     * Read-only SQL in this Pod's database. It passes when it returns no rows, or one boolean column that is true in
     * every row.
     */
    sql: z.string().min(1).max(20_000).optional(),
    /** Or a program; it ends with 0 when all is well. */
    command: Command.optional(),
    /** `error` keeps a migration from beginning, or a fence from being raised; `warning` is only shown. */
    severity: z.enum(["error", "warning"]).default("error"),
    /** Before anything is changed (`start`), right before the fence (`fence`), before dormant data goes (`removal`). */
    stages: z
      .array(z.enum(["start", "fence", "removal"]))
      .min(1)
      .default(["start", "fence"]),
    role: Role.optional(),
    timeLimitMs: z.number().int().min(10).max(60_000).default(5_000),
  })
  .refine(({ sql, command }) => (sql === undefined) !== (command === undefined), {
    error: "give either sql or command",
  });
export type CheckConfig = z.infer<typeof CheckConfig>;
