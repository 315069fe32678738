/** The NATS servers that contract tests run on: always a process, and a container where an engine answers. */

import { startNatsContainer, whyNoContainers } from "./container.ts";
import { type NatsServer, startNats } from "./nats.ts";

export interface NatsBackend {
  readonly name: string;
  /** Why it cannot run here; null when it can. */
  readonly skipped: string | null;
  start(): Promise<NatsServer>;
}

export async function natsBackends(): Promise<NatsBackend[]> {
  return [
    { name: "nats-server process", skipped: null, start: () => startNats() },
    { name: "NATS container", skipped: await whyNoContainers(), start: startNatsContainer },
  ];
}
