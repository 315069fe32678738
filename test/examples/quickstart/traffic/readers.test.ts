/** What counts as a stale read. The answers are given; a server that really is stale cannot be had to order. */
import { createServer, type Server } from "node:http";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { Client } from "../../../../examples/quickstart/traffic/client.ts";
import { Knowledge, type Known } from "../../../../examples/quickstart/traffic/knowledge.ts";
import type { Ledger } from "../../../../examples/quickstart/traffic/ledger.ts";
import { SeededRandom } from "../../../../examples/quickstart/traffic/random.ts";
import { Reader } from "../../../../examples/quickstart/traffic/readers.ts";

let server: Server;
let client: Client;
let answer: () => { status: number; revision?: number };
let knowledge: Knowledge;
let reader: Reader;
let known: Known;

beforeAll(async () => {
  server = createServer((request, response) => {
    const { status, revision } = answer();
    response.statusCode = status;
    const isObject = request.url?.includes("/objects/");
    response.end(isObject ? `${revision} key\nfiller` : JSON.stringify({ revision }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  client = new Client(`http://127.0.0.1:${port}`, {} as Ledger);
});
afterAll(async () => {
  await client.close();
  await new Promise((resolve) => server.close(resolve));
});
beforeEach(() => {
  knowledge = new Knowledge();
  reader = new Reader(client, knowledge, new SeededRandom(1));
});

/** The same key as issue and as object, so that it does not matter which of the two the reader chooses. */
async function read(state: Partial<Known>, response: { status: number; revision?: number }): Promise<number> {
  const keys = (["issue", "object"] as const).map((kind) => knowledge.add(kind, "1", "key"));
  for (const key of keys) Object.assign(key, { revision: 3, state: "x", ...state });
  known = keys[0] as Known;
  answer = () => response;
  await reader.read("1");
  expect(reader.reads).toBe(1);
  return reader.stale;
}

test("the acknowledged revision and a newer one are fresh", async () => {
  expect(await read({}, { status: 200, revision: 3 })).toBe(0);
  await reader.read("1");
  answer = () => ({ status: 200, revision: 4 });
  await reader.read("1");
  expect(reader.stale).toBe(0);
});

test("an older revision than acknowledged is stale", async () => {
  expect(await read({}, { status: 200, revision: 2 })).toBe(1);
});

test("an older revision than somebody saw is stale, although it was never acknowledged", async () => {
  expect(await read({ seenRevision: 4, busy: true }, { status: 200, revision: 3 })).toBe(1);
});

test("an acknowledged key that is not there is stale; one that is being deleted may be gone", async () => {
  expect(await read({}, { status: 404 })).toBe(1);
  knowledge = new Knowledge();
  reader = new Reader(client, knowledge, new SeededRandom(1));
  expect(await read({ busy: true }, { status: 404 })).toBe(0);
});

test("a deleted key that is there again is stale", async () => {
  expect(await read({ state: null }, { status: 200, revision: 2 })).toBe(1);
  expect(known.seenRevision).toBe(0);
});
