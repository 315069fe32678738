/** The NATS configuration of `deploy/`, on a real server with certificates made for the test. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type NatsConnection } from "nats";
import { afterAll, beforeAll, expect, it } from "vitest";
import { silentLogger } from "../../protocol/adapters/logger.ts";
import { NatsBlobs } from "../../protocol/adapters/nats-blobs.ts";
import { NatsBus } from "../../protocol/adapters/nats-bus.ts";
import { NatsConfig } from "../../protocol/adapters/nats-config.ts";
import { NatsLink } from "../../protocol/adapters/nats-connection.ts";
import { LOG_STREAM, NatsEventLog } from "../../protocol/adapters/nats-event-log.ts";
import { systemClock } from "../../protocol/adapters/system-clock.ts";
import { systemRandom } from "../../protocol/adapters/system-random.ts";
import type { Report } from "../../protocol/messages.ts";
import { makeCertificates } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { type NatsServer, startNats } from "../support/nats/nats.ts";
import { report, say } from "../support/story.ts";

const SOURCE = join(import.meta.dirname, "../../deploy/nats/nats-server.conf");
const PASSWORDS = { COORDINATOR: "c-password", AGENT_POD_0: "p0-password", AGENT_POD_100: "p100-password" };

let folder: string;
let server: NatsServer;
const links: NatsLink[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-deploy-nats-"));
  const made = await makeCertificates(folder);
  await copyFile(made.caFile, join(folder, "ca.crt"));
  let text = (await readFile(SOURCE, "utf8")).replaceAll("/etc/nats/", `${folder}/`);
  // As it is but for where it listens and keeps its data: those are arguments here.
  text = text.replace(/^listen:.*$/m, "").replace(/^ *store_dir:.*$/m, "");
  for (const [name, password] of Object.entries(PASSWORDS))
    text = text.replace(`$NATS_${name}_PASSWORD`, `"${password}"`);
  expect(text).not.toContain("$NATS_");
  const file = join(folder, "nats-server.conf");
  await writeFile(file, text);
  server = await startNats({ directory: join(folder, "data"), args: ["-c", file] });
});
afterAll(async () => {
  for (const link of links) await link.close();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const tls = () => ({
  caFile: join(folder, "ca.crt"),
  certificateFile: join(folder, "server.crt"),
  keyFile: join(folder, "server.key"),
});

/** The ports of one process, as its own configuration would make them. */
function process(user: string, password: string, inboxPrefix: string) {
  const config = NatsConfig.parse({ servers: server.url, user, password, inboxPrefix, tls: tls() });
  const link = new NatsLink(config, systemClock, silentLogger);
  links.push(link);
  const shared = { link, clock: systemClock, random: systemRandom, logger: silentLogger, replicas: 1 };
  return { link, log: new NatsEventLog(shared), bus: new NatsBus(link), blobs: new NatsBlobs(link, 1) };
}

const raw = (user: string, pass: string, inboxPrefix: string): Promise<NatsConnection> => {
  const { caFile, certificateFile, keyFile } = tls();
  const files = { caFile, certFile: certificateFile, keyFile };
  return connect({ servers: server.url, user, pass, inboxPrefix, tls: files, reconnect: false });
};

it("lets every process do its part, and an agent nothing of another's", async () => {
  const coordinator = process("coordinator", PASSWORDS.COORDINATOR, "INBOX-coordinator");
  const agent = process("agent-pod-0", PASSWORDS.AGENT_POD_0, "INBOX-pod-0");
  const heard: Report[] = [];
  coordinator.bus.onReport(
    (one) => heard.push(one),
    () => undefined,
  );
  const by = "coordinator:c1";
  const appended = await coordinator.log.append({ v: 1, at: 1, by, events: [say.configured()] }, 0);
  expect(appended).toEqual({ outcome: "appended", sequence: 1 });
  const digest = await coordinator.blobs.put(Buffer.from("assignments"));

  const folded: number[] = [];
  const subscription = await agent.log.subscribe(0, (_record, sequence) => void folded.push(sequence));
  await eventually(() => expect(folded).toEqual([1]));
  expect(Buffer.from(await agent.blobs.get(digest)).toString()).toBe("assignments");
  const own = await agent.log.append({ v: 1, at: 2, by: "agent:pod-0", events: [say.configured()] }, 1);
  expect(own).toEqual({ outcome: "appended", sequence: 2 });
  expect(await agent.log.append({ v: 1, at: 2, by: "agent:pod-0", events: [say.configured()] }, 1)).toEqual({
    outcome: "conflict",
  });
  await eventually(() => expect(folded).toEqual([1, 2]));
  await eventually(() => {
    agent.bus.publishReport(report("pod-0", { goal: "serve" }));
    expect(heard.map(({ podId }) => podId)).toContain("pod-0");
  });
  await subscription.close();

  // What it may not, asked for by hand: the server says so, and nothing happens.
  const intruder = await raw("agent-pod-0", PASSWORDS.AGENT_POD_0, "INBOX-pod-0");
  const errors: string[] = [];
  void (async () => {
    for await (const status of intruder.status())
      if (status.type === "error") errors.push(JSON.stringify(status));
  })();
  const before = heard.length;
  intruder.publish("cleave.report.pod-100", "forged");
  intruder.publish("$O.CLEAVE_BLOBS.C.x", "forged");
  intruder.subscribe("INBOX-coordinator.>");
  intruder.subscribe(">");
  await intruder.flush();
  const denied = (subject: string) =>
    expect(intruder.request(subject, "{}", { timeout: 500 }), subject).rejects.toThrow();
  await denied(`$JS.API.STREAM.DELETE.${LOG_STREAM}`);
  await denied(`$JS.API.STREAM.PURGE.${LOG_STREAM}`);
  await denied(`$JS.API.STREAM.UPDATE.${LOG_STREAM}`);
  await denied(`$JS.API.STREAM.MSG.DELETE.${LOG_STREAM}`);
  await denied("$JS.API.STREAM.CREATE.ANOTHER");
  await eventually(() => expect(errors.length).toBeGreaterThanOrEqual(7));
  expect(errors.join()).toContain("PERMISSIONS_VIOLATION");
  expect(await coordinator.log.lastSequence()).toBe(2);
  expect(heard.slice(before).every(({ podId }) => podId === "pod-0")).toBe(true);
  await intruder.close();
  // Nor may the coordinator take the log away, or report for an agent.
  const other = await raw("coordinator", PASSWORDS.COORDINATOR, "INBOX-coordinator");
  const refused = (subject: string) =>
    expect(other.request(subject, "{}", { timeout: 500 }), subject).rejects.toThrow();
  await refused(`$JS.API.STREAM.DELETE.${LOG_STREAM}`);
  await refused(`$JS.API.STREAM.PURGE.${LOG_STREAM}`);
  await other.close();
});

it("lets nobody in without a certificate, a user or the right password", async () => {
  const { caFile } = tls();
  const attempts = {
    "no TLS": { servers: server.url },
    "no certificate": {
      servers: server.url,
      user: "coordinator",
      pass: PASSWORDS.COORDINATOR,
      tls: { caFile },
    },
  };
  for (const [what, options] of Object.entries(attempts))
    await expect(connect({ ...options, reconnect: false, timeout: 2_000 }), what).rejects.toThrow();
  await expect(raw("coordinator", "guessed", "INBOX-coordinator"), "wrong password").rejects.toThrow();
  await expect(raw("agent-pod-7", PASSWORDS.AGENT_POD_0, "INBOX-pod-7"), "unknown user").rejects.toThrow();
  // A server that another issuer vouches for is none of ours.
  const others = await makeCertificates(folder, "others");
  const config = { servers: server.url, user: "coordinator", pass: PASSWORDS.COORDINATOR };
  const pair = { certFile: tls().certificateFile, keyFile: tls().keyFile };
  await expect(
    connect({ ...config, tls: { ...pair, caFile: others.caFile }, reconnect: false, timeout: 2_000 }),
  ).rejects.toThrow();
});
