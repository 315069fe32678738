/** Three NATS servers that replicate among themselves, for what one server cannot show. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../../examples/quickstart/cluster/ports.ts";
import { type NatsServer, startNats } from "./nats.ts";

export interface NatsCluster {
  /** By name: `n0`, `n1`, `n2`, as JetStream names a stream's leader. */
  readonly servers: ReadonlyMap<string, NatsServer>;
  readonly urls: string[];
  stop(): Promise<void>;
}

/** Resolves when all accept connections; JetStream elects its leader about a second later. */
export async function startNatsCluster(): Promise<NatsCluster> {
  const directory = await mkdtemp(join(tmpdir(), "cleave-nats-"));
  const routes: string[] = [];
  for (let i = 0; i < 3; i++) routes.push(`nats://127.0.0.1:${await freePort()}`);
  const started = await Promise.all(
    routes.map((route, i) =>
      startNats({
        directory: join(directory, `n${i}`),
        args: ["--name", `n${i}`, "--cluster_name", "c", "--cluster", route, "--routes", routes.join(",")],
      }),
    ),
  );
  return {
    servers: new Map(started.map((server, i) => [`n${i}`, server])),
    urls: started.map((server) => server.url),
    stop: async () => {
      await Promise.all(started.map((server) => server.resume().then(server.kill)));
      await rm(directory, { recursive: true, force: true });
    },
  };
}
