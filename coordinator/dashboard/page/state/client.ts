/** Requests to the API that serves this page, with the token that the operator entered. */
import { signal } from "@preact/signals";
import type { Problem } from "../../../api/problem.ts";
import { remember, remembered } from "./storage.ts";

/** For this tab only, and gone with it. Null: none was entered. */
export const token = signal<string | null>(remembered("session", "token"));
/** Goes into the log with every command. */
export const operator = signal(remembered("session", "operator") ?? "");
/** The API refused the token, or asks for one. */
export const tokenWanted = signal(false);

/** It refused one, rather than that there was none. */
export const tokenRefused = signal(false);

export function signIn(value: string | null, name: string): void {
  token.value = value;
  operator.value = name;
  tokenWanted.value = false;
  tokenRefused.value = false;
  remember("session", "token", value);
  remember("session", "operator", name === "" ? null : name);
}

/** What the API answered instead of doing it, or that it did not answer. */
export class Refused extends Error {
  readonly status: number;
  readonly code: string;
  readonly nextStep: string;

  constructor(status: number, code: string, message: string, nextStep: string) {
    super(message);
    this.status = status;
    this.code = code;
    this.nextStep = nextStep;
  }
}

interface Asked {
  readonly method?: "GET" | "POST";
  readonly accept?: string;
  /** Null: none. */
  readonly body?: unknown;
  /** Of one decision: the same again is decided once. */
  readonly key?: string;
  readonly signal?: AbortSignal;
}

/** @throws Refused; an AbortError when `signal` ended it. */
export async function ask(path: string, asked: Asked = {}): Promise<Response> {
  const headers: Record<string, string> = { accept: asked.accept ?? "application/json" };
  if (token.value !== null) headers["authorization"] = `Bearer ${token.value}`;
  if (operator.value !== "") headers["x-cleave-operator"] = operator.value;
  const body = asked.body ?? null;
  if (body !== null) headers["content-type"] = "application/json";
  if (asked.key !== undefined) headers["idempotency-key"] = asked.key;
  let response: Response;
  try {
    response = await fetch(path, {
      method: asked.method ?? "GET",
      headers,
      cache: "no-store",
      ...(body === null ? {} : { body: JSON.stringify(body) }),
      ...(asked.signal === undefined ? {} : { signal: asked.signal }),
    });
  } catch (error) {
    if (asked.signal?.aborted) throw error;
    throw new Refused(0, "UNREACHABLE", "the coordinator does not answer", "It is tried again.");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    tokenRefused.value = headers["authorization"] !== undefined;
    tokenWanted.value = true;
  }
  const problem = (await response.json().catch(() => null)) as Problem | null;
  throw new Refused(
    response.status,
    problem?.code ?? "INTERNAL",
    problem?.detail ?? `the coordinator answered with ${response.status}`,
    problem?.nextStep ?? "",
  );
}

/** For `key`. Not `randomUUID`, which a page without TLS does not have. */
export function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

/** @throws Refused */
export async function askJson<T>(path: string, asked: Asked = {}): Promise<T> {
  return (await (await ask(path, asked)).json()) as T;
}
