/**
 * The traffic as a process: `node main.ts CONFIG_JSON`. Clients work until standard input closes; what is under
 * way is then finished. Their ledger is a file; their counts are lines of JSON on standard output.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "./client.ts";
import { GitPusher } from "./git.ts";
import { IssueWriter } from "./issues.ts";
import { Knowledge } from "./knowledge.ts";
import { Ledger } from "./ledger.ts";
import { ObjectWriter } from "./objects.ts";
import { pace } from "./pace.ts";
import type { TrafficConfig, TrafficStats } from "./protocol.ts";
import { SeededRandom } from "./random.ts";
import { Reader } from "./readers.ts";

const STATS_EVERY_MS = 500;
const REF_READS_PER_SECOND = 0.5;
const GIT_CLIENTS = 2;
/** A push is a dozen processes, and again on every Pod that mirrors it: more would measure nothing but their start. */
const MAX_PUSHES_PER_SECOND = 1.5;
/** Of one organization, at once. A cutover keeps them waiting; more would only wait as well. */
const WRITERS_PER_ORGANIZATION = 8;

const config = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as TrafficConfig;
const stop = new AbortController();
process.stdin.resume();
process.stdin.on("end", () => stop.abort());
// Not asked to finish but to end: what is known is written down, and that is all.
process.on("SIGTERM", () => {
  ledger.close();
  process.exit(0);
});

const random = new SeededRandom(config.seed);
const run = `s${config.seed}`;
const ledger = new Ledger(config.ledgerFile);
const knowledge = new Knowledge();
const client = new Client(config.routerUrl, ledger);
const issues = new IssueWriter(client, knowledge, random.fork(), run);
const objects = new ObjectWriter(client, knowledge, random.fork(), run);
const long = new IssueWriter(client, knowledge, random.fork(), `${run}-long`);
const reader = new Reader(client, knowledge, random.fork());
const pusher = new GitPusher({
  client,
  knowledge,
  ledger,
  random: random.fork(),
  routerUrl: config.routerUrl,
  folder: config.folder,
  run,
});
let pushes = 0;

function stats(done: boolean): TrafficStats {
  return {
    done,
    acknowledged: ledger.acknowledged,
    ambiguous: ledger.ambiguous,
    ...client.counters,
    pushes,
    refusedPushes: pusher.refusedPushes,
    reads: reader.reads,
    stale: reader.stale,
    staleReads: reader.staleReads,
  };
}

/** Writers take organizations in turn, so that each has the same share and its windows are seen equally well. */
async function writers(): Promise<void> {
  const choices = random.fork();
  const writing = new Map<string, number>();
  let turn = 0;
  await pace({ perSecond: config.rate, maxInFlight: 1_000, signal: stop.signal }, async () => {
    const organization = config.organizations[turn++ % config.organizations.length] as string;
    const writer = choices.next() < config.objectShare ? objects : issues;
    const busy = writing.get(organization) ?? 0;
    if (busy >= WRITERS_PER_ORGANIZATION) return;
    writing.set(organization, busy + 1);
    await writer.write(organization);
    writing.set(organization, (writing.get(organization) ?? 1) - 1);
  });
}

async function readers(): Promise<void> {
  const choices = random.fork();
  const options = { perSecond: config.rate * config.readsPerWrite, maxInFlight: 64, signal: stop.signal };
  await pace(options, async () => await reader.read(choices.pick(config.organizations)));
}

async function refReaders(): Promise<void> {
  if (config.repositories.length === 0) return;
  const choices = random.fork();
  const options = { perSecond: REF_READS_PER_SECOND, maxInFlight: 2, signal: stop.signal };
  await pace(options, async () => await reader.readRefs(choices.pick(config.repositories)));
}

async function gitClients(): Promise<void> {
  if (config.repositories.length === 0) return;
  await pusher.prepare();
  let turn = 0;
  const perSecond = Math.min(config.rate / 100, MAX_PUSHES_PER_SECOND);
  const options = { perSecond, maxInFlight: GIT_CLIENTS, signal: stop.signal };
  await pace(options, async () => {
    await pusher.push(
      config.repositories[turn++ % config.repositories.length] as (typeof config.repositories)[0],
    );
    pushes += 1;
  });
}

async function reportStats(): Promise<void> {
  while (!stop.signal.aborted) {
    ledger.flush();
    process.stdout.write(`${JSON.stringify(stats(false))}\n`);
    await sleep(STATS_EVERY_MS, undefined, { signal: stop.signal }).catch(() => {});
  }
}

await Promise.all([
  writers(),
  readers(),
  refReaders(),
  gitClients(),
  ...(config.longTransactions ? [long.holdTransactionsOpen(config.organizations, stop.signal)] : []),
  reportStats(),
]);
ledger.close();
await client.close();
process.stdout.write(`${JSON.stringify(stats(true))}\n`);
