/** Errors as problem details (RFC 9457), with Cleave's code and next step. */
import { z } from "zod";
import { CleaveError, ERRORS, type ErrorCode, invariant, toCleaveError } from "../../protocol/errors.ts";

export const Problem = z
  .object({
    type: z.string().describe("urn:cleave:error:CODE"),
    title: z.string().describe("What the code means"),
    status: z.number().int(),
    code: z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]),
    detail: z.string().describe("What happened this time"),
    nextStep: z.string(),
  })
  .meta({ id: "Problem" });
export type Problem = z.infer<typeof Problem>;

const STATUS: Partial<Record<ErrorCode, number>> = {
  MIGRATION_UNKNOWN: 404,
  NOT_FOUND: 404,
  HISTORY_INCOMPLETE: 409,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  IDEMPOTENCY_KEY_REUSED: 422,
  REQUEST_INVALID: 400,
  PLAN_INVALID: 400,
  PLAN_ORGANIZATION_TWICE: 400,
  PLAN_UNKNOWN_POD: 422,
  PLAN_UNKNOWN_ORGANIZATION: 422,
  PLAN_NOT_ON_SOURCE: 409,
  ORGANIZATION_CLAIMED: 409,
  MIGRATION_EXISTS: 409,
  POD_BUSY: 409,
  COMMAND_NOT_POSSIBLE: 409,
  ABORT_AFTER_TRANSFER: 409,
  MESSAGE_VERSION_UNKNOWN: 409,
  ROLLBACK_TOO_LATE: 409,
  REVERSE_REPLICATION_GONE: 409,
  INTERNAL: 500,
  NATS_UNREACHABLE: 503,
  LOG_APPEND_UNKNOWN: 503,
  BLOB_CORRUPT: 503,
};

/** What every route may answer with; of framework's refusals only the body's have another status than 400. */
const EVERYWHERE: readonly ErrorCode[] = [
  "REQUEST_INVALID",
  "UNAUTHORIZED",
  "FORBIDDEN",
  "NATS_UNREACHABLE",
  "INTERNAL",
];

interface Described {
  readonly description: string;
  readonly content: { readonly "application/problem+json": { readonly schema: typeof Problem } };
}

/**
 * The refusals of a route, by status, each with its codes.
 * @param codes beyond those that every route may answer with
 */
export function problems(...codes: readonly ErrorCode[]): { readonly "4xx": Described } {
  const content = { "application/problem+json": { schema: Problem } };
  const described: Record<string, Described> = {
    default: { description: "Any other refusal, of the body's size or type for one", content },
  };
  const forgotten = codes.filter((code) => STATUS[code] === undefined);
  invariant(forgotten.length === 0, `${forgotten} without a status`);
  for (const status of [...EVERYWHERE, ...codes].map(statusOf)) {
    const own = [...EVERYWHERE, ...codes].filter((code) => statusOf(code) === status);
    const description = own.map((code) => `\`${code}\`: ${ERRORS[code][0]}`).join("\n");
    described[status] = { description, content };
  }
  // As one of them, so that the types of answers stay those of what is not refused.
  return described as unknown as { readonly "4xx": Described };
}

function statusOf(code: ErrorCode): number {
  return STATUS[code] ?? 500;
}

export function toProblem(error: unknown): Problem {
  const framework = fromFramework(error);
  const known = framework?.error ?? toCleaveError(error);
  return {
    type: `urn:cleave:error:${known.code}`,
    title: ERRORS[known.code][0],
    status: framework?.status ?? statusOf(known.code),
    code: known.code,
    detail: known.message,
    nextStep: known.nextStep,
  };
}

/** The HTTP framework's own refusals: bad JSON, bad parameters, unknown content types, bodies that are too large. */
function fromFramework(error: unknown): { error: CleaveError; status: number } | null {
  if (error instanceof CleaveError || !(error instanceof Error)) return null;
  const { statusCode: status } = error as { statusCode?: unknown };
  if (typeof status !== "number" || status < 400 || status >= 500) return null;
  return { error: new CleaveError("REQUEST_INVALID", error.message, { cause: error }), status };
}
