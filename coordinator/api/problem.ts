/** Errors as problem details (RFC 9457), with Cleave's code and next step. */
import { z } from "zod";
import { CleaveError, ERRORS, type ErrorCode, toCleaveError } from "../../protocol/errors.ts";

export const Problem = z.object({
  type: z.string().describe("urn:cleave:error:CODE"),
  title: z.string().describe("What the code means"),
  status: z.number().int(),
  code: z.string(),
  detail: z.string().describe("What happened this time"),
  nextStep: z.string(),
});
export type Problem = z.infer<typeof Problem>;

/** The refusals that every route may answer with. */
export const PROBLEMS = {
  "4xx": { description: "Refused", content: { "application/problem+json": { schema: Problem } } },
  "5xx": { description: "Not possible now", content: { "application/problem+json": { schema: Problem } } },
};

const STATUS: Partial<Record<ErrorCode, number>> = {
  MIGRATION_UNKNOWN: 404,
  NOT_FOUND: 404,
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
  NATS_UNREACHABLE: 503,
  LOG_APPEND_UNKNOWN: 503,
  BLOB_CORRUPT: 503,
};

export function toProblem(error: unknown): Problem {
  const framework = fromFramework(error);
  const known = framework?.error ?? toCleaveError(error);
  return {
    type: `urn:cleave:error:${known.code}`,
    title: ERRORS[known.code][0],
    status: framework?.status ?? STATUS[known.code] ?? 500,
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
