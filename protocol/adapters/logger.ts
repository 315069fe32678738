/** Log lines on stderr: JSON for machines, readable when a person watches. stdout stays free for a command's answer. */
import { createRequire } from "node:module";
import pino from "pino";
import type { Logger } from "../ports/logger.ts";

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** Values under these names never reach a log line, however deep they are passed in. */
const SECRETS = ["password", "token", "peerToken", "*.password", "*.token", "*.peerToken", "*.*.password"];

/**
 * `fields` are written on every line: at least who is speaking, for example `{ agent: "pod-0" }`. `now` is asked for
 * more with every line, for example how far the log was folded; what a line says itself comes first.
 */
export function createLogger(
  fields: object,
  level: LogLevel = "info",
  now: () => object = () => ({}),
): Logger {
  const options = { level, base: { pid: process.pid, ...fields }, redact: SECRETS, mixin: now };
  if (process.stderr.isTTY && prettyIsInstalled()) {
    const pretty = { target: "pino-pretty", options: { destination: 2, ignore: "pid,hostname" } };
    return pino({ ...options, transport: pretty });
  }
  // Synchronous: the last line before a crash is the one that matters.
  return pino(options, pino.destination({ dest: 2, sync: true }));
}

/** Of no use to anybody: for tests of other things. */
export const silentLogger: Logger = pino({ level: "silent" });

/** A development dependency: production images go without it and get JSON. */
function prettyIsInstalled(): boolean {
  try {
    createRequire(import.meta.url).resolve("pino-pretty");
    return true;
  } catch {
    return false;
  }
}
