/** How the application passes refusals of the stores on: 421 names the right Pod, 503 says "try again". */
import type { ServerResponse } from "node:http";
import { WriteRefused } from "../../../agent/stores/file-fence/write-intent.ts";
import { CleaveError } from "../../../protocol/errors.ts";

export type Refusal =
  | { readonly kind: "wrongPod"; readonly podId: string }
  | { readonly kind: "tryAgain"; readonly why: string };

/** Terminated, shutting down, crashed, still starting, or a standby: the write did not happen, or its retry is safe. */
const TRY_AGAIN = /^(57P0\d|08\w{3}|25006|40001|40P01|CL503)$/;
/** The driver's own words, which carry no code. */
const CONNECTION_LOST =
  /connection terminated|connection error and is not queryable|timeout exceeded when trying to connect/i;
const NETWORK = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT"]);

/** What an error of PostgreSQL or of the file fence asks of the client, or null for every other error. */
export function refusalOf(error: unknown): Refusal | null {
  if (error instanceof WriteRefused && error.code === "WRONG_POD")
    return { kind: "wrongPod", podId: error.podId };
  if (error instanceof CleaveError) return { kind: "tryAgain", why: error.code };
  const { code, detail, message } = error as { code?: string; detail?: string; message?: string };
  if (code === "CL421") return { kind: "wrongPod", podId: detail ?? "" };
  // A hot standby refuses SERIALIZABLE with a code that says less than its words.
  if (code === "0A000" && message?.includes("hot standby")) return { kind: "tryAgain", why: "25006" };
  if (code !== undefined && (TRY_AGAIN.test(code) || NETWORK.has(code)))
    return { kind: "tryAgain", why: code };
  if (message !== undefined && CONNECTION_LOST.test(message)) return { kind: "tryAgain", why: "connection" };
  return null;
}

/**
 * The words of the reference-transaction hook, when it refused a push. Git then ends at once, without a report: the
 * words are on its standard error; of other hooks, in the answer. A push whose report says that it went through in
 * part is answered as it is: sent again, that part would fail.
 */
export function refusalInPush(output: Buffer, errors: string): Refusal | null {
  const { report, messages } = sideBands(output);
  if (/^[0-9a-f]{4}ok /m.test(report)) return null;
  const words = `${errors}\n${messages}`;
  const wrongPod = /^cleave: ([a-z0-9-]+) is authoritative for this repository/m.exec(words);
  if (wrongPod) return { kind: "wrongPod", podId: wrongPod[1] as string };
  return /^cleave: this repository is read-only/m.test(words)
    ? { kind: "tryAgain", why: "repository" }
    : null;
}

/** The answer's pkt-lines, by band: 1 is the report (pkt-lines again), 2 what the server said on standard error. */
function sideBands(output: Buffer): { readonly report: string; readonly messages: string } {
  const bands: Record<number, string> = {};
  let offset = 0;
  while (offset + 4 <= output.length) {
    const length = Number.parseInt(output.toString("latin1", offset, offset + 4), 16);
    if (Number.isNaN(length)) break;
    if (length > 4) {
      const band = output[offset + 4] as number;
      bands[band] = (bands[band] ?? "") + output.toString("latin1", offset + 5, offset + length);
    }
    offset += Math.max(length, 4);
  }
  return { report: bands[1] ?? "", messages: bands[2] ?? "" };
}

export function refuse(response: ServerResponse, refusal: Refusal): void {
  if (refusal.kind === "wrongPod") response.writeHead(421, { "cleave-pod": refusal.podId });
  else response.writeHead(503, { "retry-after": "1", "cleave-refused": refusal.why });
  response.end();
}
