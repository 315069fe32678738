/** Errors as problem details (RFC 9457), with Cleave's code and next step. */
import { z } from "zod";
import { CleaveError, type ErrorCode, toCleaveError } from "../../protocol/errors.ts";

export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  code: z.string(),
  detail: z.string(),
  nextStep: z.string(),
});
export type Problem = z.infer<typeof Problem>;

const STATUS: Partial<Record<ErrorCode, number>> = {
  MIGRATION_UNKNOWN: 404,
  NOT_FOUND: 404,
  UNAUTHORIZED: 401,
  PLAN_INVALID: 400,
  PLAN_ORGANIZATION_TWICE: 400,
  PLAN_UNKNOWN_POD: 422,
  PLAN_NOT_ON_SOURCE: 409,
  ORGANIZATION_CLAIMED: 409,
  MIGRATION_EXISTS: 409,
  POD_BUSY: 409,
  COMMAND_NOT_POSSIBLE: 409,
  ABORT_AFTER_TRANSFER: 409,
  MESSAGE_MALFORMED: 400,
  MESSAGE_OVERSIZED: 413,
  MESSAGE_VERSION_UNKNOWN: 409,
  NATS_UNREACHABLE: 503,
  LOG_APPEND_UNKNOWN: 503,
  BLOB_CORRUPT: 503,
};

export function toProblem(error: unknown): Problem {
  const known = fromFramework(error) ?? toCleaveError(error);
  return {
    type: `urn:cleave:error:${known.code}`,
    title: known.code,
    status: STATUS[known.code] ?? 500,
    code: known.code,
    detail: known.message,
    nextStep: known.nextStep,
  };
}

/** The HTTP framework's own refusals: bad JSON, bad parameters, bodies that are too large. */
function fromFramework(error: unknown): CleaveError | null {
  if (error instanceof CleaveError || !(error instanceof Error)) return null;
  const { statusCode } = error as { statusCode?: unknown };
  if (statusCode === 413) return new CleaveError("MESSAGE_OVERSIZED", error.message);
  if (typeof statusCode === "number" && statusCode >= 400 && statusCode < 500)
    return new CleaveError("MESSAGE_MALFORMED", error.message);
  return null;
}
