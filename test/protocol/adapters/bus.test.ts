import { describe, expect, it } from "vitest";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { NatsBus } from "../../../protocol/adapters/nats-bus.ts";
import { NatsLink } from "../../../protocol/adapters/nats-connection.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { Report } from "../../../protocol/messages.ts";
import { eventually } from "../../support/eventually.ts";
import { natsBackends } from "../../support/nats/backends.ts";
import type { NatsServer } from "../../support/nats/nats.ts";
import { busContract, report } from "./bus-contract.ts";

for (const backend of await natsBackends()) {
  const title = backend.skipped ? `${backend.name} (skipped: ${backend.skipped})` : backend.name;
  describe.skipIf(backend.skipped !== null)(title, () => {
    let server: NatsServer;
    const links: NatsLink[] = [];

    async function up(): Promise<NatsLink> {
      const link = new NatsLink(server.config, systemClock, silentLogger);
      links.push(link);
      await link.ready();
      return link;
    }
    async function down(): Promise<void> {
      await Promise.all(links.splice(0).map((link) => link.close()));
      await server.stop();
    }

    busContract("core NATS", async () => {
      server = await backend.start();
      return {
        makeBus: async () => new NatsBus(await up()),
        sendRaw: async (podId, bytes) => {
          const connection = await (await up()).ready();
          connection.publish(`cleave.report.${podId}`, bytes);
          await connection.flush();
        },
        close: down,
      };
    });

    it("knows whether it is connected, and hears again after the server was away", async () => {
      server = await backend.start();
      try {
        const bus = new NatsBus(await up());
        const got: Report[] = [];
        bus.onReport(
          (r) => got.push(r),
          (error) => expect.unreachable(error.message),
        );
        expect(bus.connected()).toBe(true);
        await server.kill();
        await eventually(() => expect(bus.connected()).toBe(false));
        bus.publishReport(report("pod-0", 1));
        await server.start();
        await eventually(() => expect(bus.connected()).toBe(true));
        let sequence = 1;
        await eventually(() => {
          bus.publishReport(report("pod-0", ++sequence));
          expect(got.length).toBeGreaterThan(0);
        });
        // What was published while it was away is not delivered late.
        expect(got[0]?.reportSequence).toBeGreaterThan(1);
      } finally {
        await down();
      }
    });
  });
}
