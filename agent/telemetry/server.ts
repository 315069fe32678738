/**
 * What supervisors and Prometheus ask an agent: a port of its own, without a token. Not the guard's, whose answers have
 * to cost microseconds and whom every proxy reaches; not the peers', whose token opens repositories and objects.
 * It tells of states and amounts, and names no organization.
 */
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { PodId } from "../../protocol/ids.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import type { Meters } from "../../protocol/telemetry/meters.ts";

export interface MetricsServerOptions {
  readonly podId: PodId;
  readonly host: string;
  /** 0 for any free port. */
  readonly port: number;
  readonly meters: Meters;
  readonly health: () => { readonly ready: boolean; readonly connected: boolean; readonly sequence: number };
  readonly logger: Logger;
}

export interface MetricsServer {
  readonly port: number;
  close(): Promise<void>;
}

/** `GET /metrics`, `/health` (200 while the process runs) and `/ready` (503 until the log is read). */
export async function startMetricsServer(options: MetricsServerOptions): Promise<MetricsServer> {
  const { meters, health, podId, logger } = options;
  const server = createServer((request, response) => {
    request.resume();
    const path = request.url?.split("?")[0];
    if (request.method !== "GET" && request.method !== "HEAD") send(response, 405, {}, "");
    else if (path === "/health") sendJson(response, 200, { ok: true, podId, ...health() });
    else if (path === "/ready") sendJson(response, health().ready ? 200 : 503, { ready: health().ready });
    else if (path === "/metrics")
      meters.scrape().then(
        (text) => send(response, 200, { "content-type": meters.contentType }, text),
        (error: unknown) => {
          logger.error({ err: error }, "the metrics cannot be told");
          send(response, 500, {}, "");
        },
      );
    else sendJson(response, 404, { code: "NOT_FOUND", message: "there are /metrics, /health and /ready" });
  });
  server.listen(options.port, options.host);
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function sendJson(response: ServerResponse, status: number, value: object): void {
  send(response, status, { "content-type": "application/json" }, JSON.stringify(value));
}

function send(response: ServerResponse, status: number, headers: Record<string, string>, body: string): void {
  response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) });
  response.end(body);
}
