/** PostgreSQL as the source and the target of a move, as a pair of the store contract. */
import { Ownership } from "../../../protocol/ownership.ts";
import type { StorePair } from "../../agent/stores/contract.ts";
import { FROM, MovePods, TO } from "../postgres/move-pods.ts";

const SCHEMA = `
CREATE TABLE orgs (id bigint PRIMARY KEY);
CREATE TABLE notes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), org_id bigint NOT NULL, body text);`;
const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: { "public.notes": { organization: "org_id" } },
});
const ORGANIZATIONS = { moving: 2, staying: 1 } as const;

export async function postgresMovePair(): Promise<StorePair> {
  const pods = await MovePods.start(SCHEMA, RULES, [String(ORGANIZATIONS.moving)]);
  await pods.source.query("INSERT INTO orgs VALUES (1), (2)");
  const ids = { source: FROM, target: TO };
  const outcomes: Record<string, "fenced" | "wrongPod"> = { CL503: "fenced", CL421: "wrongPod" };
  return {
    kind: "move",
    reach: (side, goal, phase, epoch, signal, removal) => {
      const options = { phase, ...(epoch === null ? {} : { epoch }), ...(removal ? { removal } : {}) };
      return pods.store(ids[side]).reach(pods.duty(ids[side], goal, options), signal);
    },
    holds: async (side, organization) => {
      const owner = ORGANIZATIONS[organization];
      return (await pods[side].query(`SELECT FROM notes WHERE org_id = ${owner}`)).length > 0;
    },
    status: (side) => pods.store(ids[side]).status(pods.migrationId),
    restart: (side) => pods.restart(ids[side]),
    write: async (side, organization) => {
      const client = await pods[side].connect();
      try {
        await client.query("INSERT INTO notes (org_id, body) VALUES ($1, 'x')", [
          ORGANIZATIONS[organization],
        ]);
        return "written";
      } catch (error) {
        const outcome = outcomes[(error as { code: string }).code];
        if (outcome === undefined) throw error;
        return outcome;
      } finally {
        await client.end();
      }
    },
    isEmpty: async () =>
      (await pods.target.query("SELECT FROM orgs UNION ALL SELECT FROM notes")).length === 0,
    remove: () => pods.remove(),
  };
}
