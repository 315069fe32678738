/** The log on three NATS servers: it survives the loss of its leader, and a leader that is cut off is not believed. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { NatsConfig } from "../../../protocol/adapters/nats-config.ts";
import { NatsLink } from "../../../protocol/adapters/nats-connection.ts";
import { LOG_STREAM, NatsEventLog } from "../../../protocol/adapters/nats-event-log.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { systemRandom } from "../../../protocol/adapters/system-random.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import type { EventLog } from "../../../protocol/ports/event-log.ts";
import { eventually } from "../../support/eventually.ts";
import { type NatsCluster, startNatsCluster } from "../../support/nats/cluster.ts";
import type { NatsServer } from "../../support/nats/nats.ts";
import { abortedRecord, read } from "./event-log-contract.ts";

let cluster: NatsCluster;
const links: NatsLink[] = [];

beforeEach(async () => {
  cluster = await startNatsCluster();
});
afterEach(async () => {
  await Promise.all(links.splice(0).map((link) => link.close()));
  await cluster.stop();
});

function linkTo(servers: string[]): NatsLink {
  const link = new NatsLink(NatsConfig.parse({ servers, replicas: 3 }), systemClock, silentLogger);
  links.push(link);
  return link;
}
function logOn(link: NatsLink): NatsEventLog {
  return new NatsEventLog({
    link,
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    replicas: 3,
  });
}

async function leader(link: NatsLink): Promise<string> {
  const manager = await (await link.ready()).jetstreamManager({ checkAPI: false });
  const name = (await manager.streams.info(LOG_STREAM)).cluster?.leader;
  if (name === undefined) throw new Error("the log has no leader now");
  return name;
}

/** As LogFollower does: after every doubt the log is read before it is decided again. */
async function appendThrough(
  log: EventLog,
  reason: string,
  held: Pick<Set<string>, "has" | "size">,
  expected: number,
): Promise<number> {
  for (let last = expected; ; ) {
    try {
      const result = await log.append(abortedRecord(reason), last);
      if (result.outcome === "appended") return result.sequence;
    } catch (error) {
      if (!(error instanceof CleaveError && error.code === "LOG_APPEND_UNKNOWN")) throw error;
    }
    await eventually(async () => {
      last = await log.lastSequence();
      expect(held.size).toBe(last);
    }, 60_000);
    if (held.has(reason)) return last;
  }
}

it("neither loses nor repeats a record when the leader is killed, and goes on", {
  timeout: 180_000,
}, async () => {
  const link = linkTo(cluster.urls);
  const log = logOn(link);
  await eventually(async () => expect(await log.lastSequence()).toBe(0), 60_000);
  const { seen, subscription } = await read(log);
  const held = {
    has: (r: string) => seen.some((s) => s.reason === r),
    get size() {
      return seen.length;
    },
  };
  let last = 0;
  for (let i = 0; i < 20; i++) last = await appendThrough(log, `${i}`, held, last);
  await (cluster.servers.get(await leader(link)) as NatsServer).kill();
  for (let i = 20; i < 30; i++) last = await appendThrough(log, `${i}`, held, last);
  await eventually(() => expect(seen).toHaveLength(30));
  expect(seen.map((s) => s.reason)).toEqual([...Array(30)].map((_, i) => `${i}`));
  expect(last).toBe(30);
  await subscription.close();
});

it("does not confirm anything by a leader that hears from nobody (rule 12)", {
  timeout: 180_000,
}, async () => {
  const link = linkTo(cluster.urls);
  await eventually(async () => expect(await logOn(link).lastSequence()).toBe(0), 60_000);
  const name = await leader(link);
  const alone = cluster.servers.get(name) as NatsServer;
  const log = logOn(linkTo([alone.url]));
  expect(await log.lastSequence()).toBe(0);
  for (const [other, server] of cluster.servers) if (other !== name) await server.pause();
  await eventually(
    () => expect(log.lastSequence()).rejects.toMatchObject({ message: expect.stringMatching(/majority/) }),
    4_000,
    100,
  );
});
