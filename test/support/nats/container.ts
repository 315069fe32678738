/** The same NATS server in a container, where a container engine answers. */
import { NatsContainer } from "@testcontainers/nats";
import { getContainerRuntimeClient } from "testcontainers";
import { freePort } from "../../../examples/quickstart/cluster/ports.ts";
import { NatsConfig } from "../../../protocol/adapters/nats-config.ts";
import type { NatsServer } from "./nats.ts";

const IMAGE = process.env["CLEAVE_NATS_IMAGE"] ?? "nats:2.10-alpine";

/** Null when an engine answers; otherwise why not, in a line for the test's report. */
export async function whyNoContainers(): Promise<string | null> {
  const tooLate = new Promise<string>((resolve) =>
    setTimeout(resolve, 2_000, "no answer within 2 s").unref(),
  );
  const asked = getContainerRuntimeClient().then(
    () => null,
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  return await Promise.race([asked, tooLate]);
}

export async function startNatsContainer(): Promise<NatsServer> {
  // A fixed host port: an arbitrary one would change with every restart.
  const port = await freePort();
  const container = await new NatsContainer(IMAGE)
    .withJetStream()
    .withArg("store_dir", "/tmp/jetstream")
    .withExposedPorts({ container: 4222, host: port })
    .start();
  const engine = await getContainerRuntimeClient();
  const handle = engine.container.getById(container.getId());
  const { user, pass } = container.getConnectionOptions();
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    config: NatsConfig.parse({ servers: `nats://127.0.0.1:${port}`, name: "test", user, password: pass }),
    kill: async () => void (await handle.kill()),
    start: async () => void (await handle.start()),
    pause: async () => void (await handle.pause()),
    resume: async () => void (await handle.unpause()),
    stop: async () => void (await container.stop({ remove: true, removeVolumes: true })),
  };
}
