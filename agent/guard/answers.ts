/** The guard's answers as HTTP: status, headers and body. Pure. */
import type { Route } from "../../protocol/cluster.ts";
import { type CleaveError, ERRORS, type ErrorCode } from "../../protocol/errors.ts";
import type { PodId } from "../../protocol/ids.ts";
import type { Access } from "../domain/guard.ts";
import type { GuardConfig } from "./config.ts";

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/**
 * 200: go ahead on this Pod (`Cleave-Pod`). 421: on the Pod that `Cleave-Pod` names (RFC 9110, "misdirected").
 * 503 with `Retry-After`: not now.
 */
export function answerTo(access: Access, route: Route | null, self: PodId, config: GuardConfig): Answer {
  const version = String(route?.version ?? 0);
  switch (access.outcome) {
    case "allow":
      return { status: 200, headers: { "cleave-pod": self, "cleave-route-version": version }, body: "" };
    case "wrongPod": {
      const headers = { "cleave-pod": access.podId, "cleave-route-version": version };
      return refusal(421, "WRONG_POD", `${access.podId} serves it`, headers, { podId: access.podId });
    }
    case "fenced":
      return later(
        "WRITE_FENCED",
        "the organization is being handed over",
        access.retryAfterMs,
        self,
        config,
      );
    case "opening":
      return later("POD_OPENING", `${self} is about to open`, 0, self, config);
    case "unconfirmed":
      return later("READ_UNCONFIRMED", `${self} has lost contact with the log`, 0, self, config);
    case "unknownIdentity":
      return later("POD_IDENTITY_UNKNOWN", `${self} does not know yet what it may serve`, 0, self, config);
  }
}

/** What was asked in a way that is refused or not understood; any other error is the agent's own, so it is worth asking again. */
export function answerToError(error: CleaveError): Answer {
  const status = STATUS[error.code] ?? 500;
  return refusal(status, error.code, error.message, {});
}

const STATUS: Partial<Record<ErrorCode, number>> = { NOT_FOUND: 404, REQUEST_INVALID: 400 };

/** Where an organization lives, for routers to keep for a while. A share on the move is not kept at all. */
export function routeAnswer(route: Route, access: Access, config: GuardConfig): Answer {
  const settled = access.outcome === "allow" || access.outcome === "wrongPod";
  return json(200, route, {
    "cache-control": settled ? `max-age=${config.routeMaxAgeSeconds}` : "no-store",
    "cleave-pod": route.podId,
    "cleave-route-version": String(route.version),
  });
}

/** nginx's auth_request understands 2xx, 401 and 403 alone; the headers still tell what it was. */
export function asForbidden(answer: Answer): Answer {
  return answer.status < 400 ? answer : { ...answer, status: 403 };
}

export function json(status: number, value: object, headers: Record<string, string> = {}): Answer {
  return { status, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(value) };
}

function later(code: ErrorCode, message: string, afterMs: number, self: PodId, config: GuardConfig): Answer {
  const seconds = Math.min(Math.max(1, Math.ceil(afterMs / 1_000)), config.retryAfterSeconds);
  return refusal(503, code, message, { "retry-after": String(seconds), "cleave-pod": self });
}

function refusal(
  status: number,
  code: ErrorCode,
  message: string,
  headers: Record<string, string>,
  more: object = {},
): Answer {
  const [summary, nextStep] = ERRORS[code];
  const body = { code, ...more, message: `${summary} (${message})`, nextStep };
  return json(status, body, { ...headers, "cleave-code": code, "cache-control": "no-store" });
}
