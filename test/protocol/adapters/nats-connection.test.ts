import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { freePort } from "../../../examples/quickstart/cluster/ports.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { NatsConfig } from "../../../protocol/adapters/nats-config.ts";
import { NatsLink } from "../../../protocol/adapters/nats-connection.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { eventually } from "../../support/eventually.ts";
import { startNats } from "../../support/nats/nats.ts";

describe("connection to NATS", () => {
  it("waits for a server that starts later, and says meanwhile what it waits for", async () => {
    const port = await freePort();
    const link = new NatsLink(
      NatsConfig.parse({ servers: `nats://127.0.0.1:${port}` }),
      systemClock,
      silentLogger,
    );
    await eventually(() => expect(link.problem()?.message).toMatch(/REFUSED/));
    expect(link.problem()?.code).toBe("NATS_UNREACHABLE");
    const server = await startNats({ port });
    try {
      await link.ready();
      expect(link.problem()).toBeNull();
    } finally {
      await link.close();
      await server.stop();
    }
  });

  it("closes while it waits for a server, and whoever waits is told", async () => {
    const config = NatsConfig.parse({ servers: `nats://127.0.0.1:${await freePort()}` });
    const link = new NatsLink(config, systemClock, silentLogger);
    const waiting = expect(link.ready()).rejects.toMatchObject({ code: "NATS_UNREACHABLE" });
    await link.close();
    await waiting;
  });

  it("notices a server that hangs, and one that is back", async () => {
    const server = await startNats();
    const link = new NatsLink(server.config, systemClock, silentLogger);
    try {
      await link.ready();
      await server.pause();
      await eventually(() => expect(link.connected()).toBe(false), 15_000);
      await server.resume();
      await eventually(() => expect(link.connected()).toBe(true));
    } finally {
      await server.resume();
      await link.close();
      await server.stop();
    }
  });

  it("takes the password from a file, and never shows the one of an address", async () => {
    const directory = await mkdtemp(join(tmpdir(), "cleave-test-"));
    const passwordFile = join(directory, "password");
    await writeFile(passwordFile, "s3cret\n");
    const server = await startNats({ args: ["--user", "cleave", "--pass", "s3cret"] });
    const link = new NatsLink({ ...server.config, user: "cleave", passwordFile }, systemClock, silentLogger);
    const wrong = NatsConfig.parse({ servers: `nats://cleave:wr0ng@127.0.0.1:${server.port}` });
    const refused = new NatsLink(wrong, systemClock, silentLogger);
    try {
      await link.ready();
      await eventually(() => expect(refused.problem()?.message).toMatch(/Authorization/i));
      expect(refused.problem()?.message).not.toContain("wr0ng");
    } finally {
      await Promise.all([link.close(), refused.close()]);
      await server.stop();
      await rm(directory, { recursive: true });
    }
  });
});
