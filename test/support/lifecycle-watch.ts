/** Follows a cluster's log and tells each state that a migration reaches, in the moment of the record. */
import type { Layout } from "../../examples/quickstart/cluster/layout.ts";
import { silentLogger } from "../../protocol/adapters/logger.ts";
import { NatsBlobs } from "../../protocol/adapters/nats-blobs.ts";
import { NatsConfig } from "../../protocol/adapters/nats-config.ts";
import { NatsLink } from "../../protocol/adapters/nats-connection.ts";
import { NatsEventLog } from "../../protocol/adapters/nats-event-log.ts";
import { systemClock } from "../../protocol/adapters/system-clock.ts";
import { systemRandom } from "../../protocol/adapters/system-random.ts";
import type { MigrationId } from "../../protocol/ids.ts";
import { LogFollower } from "../../protocol/log-follower.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";

export class LifecycleWatch {
  readonly #link: NatsLink;
  readonly #follower: LogFollower;
  #lifecycle: Lifecycle | null = null;

  constructor(layout: Layout, migration: string, onReached: (lifecycle: Lifecycle) => void) {
    this.#link = new NatsLink(
      NatsConfig.parse({ servers: layout.natsUrl, name: "watch" }),
      systemClock,
      silentLogger,
    );
    const log = new NatsEventLog({
      link: this.#link,
      clock: systemClock,
      random: systemRandom,
      logger: silentLogger,
      replicas: 1,
    });
    const ports = { log, blobs: new NatsBlobs(this.#link, 1), clock: systemClock };
    this.#follower = new LogFollower(ports, "watch", (state) => {
      const lifecycle = state.migrations[migration as MigrationId]?.lifecycle ?? null;
      if (lifecycle === this.#lifecycle) return;
      this.#lifecycle = lifecycle;
      if (lifecycle !== null) onReached(lifecycle);
    });
  }

  async start(): Promise<void> {
    await this.#follower.start();
  }

  async stop(): Promise<void> {
    await this.#follower.stop();
    await this.#link.close();
  }
}
