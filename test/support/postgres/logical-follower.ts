/** Follows a change stream in a process of its own until its input ends; the last argument says from where to where. */

import type { Endpoint } from "../../../agent/stores/postgres/config.ts";
import { readSchema } from "../../../agent/stores/postgres/inventory/schema.ts";
import { follow } from "../../../agent/stores/postgres/replication/follow.ts";
import { planMove } from "../../../agent/stores/postgres/replication/moved-tables.ts";
import { connect } from "../../../agent/stores/postgres/server/connection.ts";
import type { OrganizationId } from "../../../protocol/ids.ts";
import { Ownership } from "../../../protocol/ownership.ts";

interface Options {
  readonly source: Endpoint;
  readonly target: Endpoint;
  readonly rules: unknown;
  readonly organizations: readonly OrganizationId[];
}

const { source, target, rules, organizations } = JSON.parse(process.argv.at(-1) ?? "") as Options;
const schemaOf = async (endpoint: Endpoint) => {
  const db = await connect(endpoint, { applicationName: "cleave-test" });
  const schema = await readSchema(db);
  await db.end();
  return schema;
};
const moving = planMove(
  await schemaOf(source),
  await schemaOf(target),
  Ownership.parse(rules),
  organizations,
);
const stop = new AbortController();
process.stdin.on("end", () => stop.abort());
process.stdin.resume();
let most = 0;
const watch = setInterval(() => {
  most = Math.max(most, process.memoryUsage().heapUsed);
}, 20);
await follow({
  source,
  target,
  moving,
  slot: "cleave_move",
  publication: "cleave_move",
  signal: stop.signal,
});
clearInterval(watch);
console.log(`stopped; ${Math.round(most / 1e6)} MB of heap at most`);
