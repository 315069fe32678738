/** Any schema, any workload: the moved organization equals the source row for row, and everything else is untouched. */
import { expect, it } from "vitest";
import { SeededRandom } from "../../../../../examples/quickstart/traffic/random.ts";
import { FROM, MovePods } from "../../../../support/postgres/move-pods.ts";
import { RandomSchema } from "../../../../support/postgres/random-schema.ts";

const SEEDS = (process.env["CLEAVE_MOVE_SEEDS"] ?? "1,2,3,4").split(",").map(Number);
const MOVED = 2;

async function read(cluster: MovePods["source"], queries: readonly string[]): Promise<unknown[]> {
  const found: unknown[] = [];
  for (const query of queries) found.push(await cluster.query(query));
  return found;
}

it.each(SEEDS)(
  "schema and workload of seed %d",
  async (seed) => {
    const schema = new RandomSchema(new SeededRandom(seed));
    const ddl = schema.ddl;
    let pods: MovePods | undefined;
    try {
      pods = await MovePods.start(ddl, schema.ownership, []);
      for (const statement of schema.data([1, MOVED, 3], 200)) await pods.source.query(statement);
      // Others on the target, with keys of their own.
      for (const statement of schema.data([11, 12], 50)) await pods.target.query(statement);
      const [row] = await pods.source.query(schema.organizationSql(MOVED));
      pods.organizations = [row?.["id"] as string];
      const residents = await read(pods.target, schema.contents(MOVED, "others"));
      const db = await pods.source.connect();
      let stopped = false;
      let refused = 0;
      const writing = (async () => {
        while (!stopped) {
          // Several in a transaction, some of which are rolled back.
          await db.query("BEGIN");
          try {
            for (let n = 0; n < 3; n++) await db.query(schema.statement());
            await db.query(refused % 7 === 3 ? "ROLLBACK" : "COMMIT");
          } catch (error) {
            await db.query("ROLLBACK");
            if (!/^(CL503|23)/.test((error as { code?: string }).code ?? "")) throw error;
            refused += 1;
          }
        }
      })();
      try {
        await pods.follow();
        const evidence = await pods.fence(1);
        expect(evidence.target, JSON.stringify(pods.status(FROM))).toBe(evidence.source);
      } finally {
        stopped = true;
        await writing.finally(() => db.end());
      }
      await pods.transfer(1);
      const its = schema.contents(MOVED, "its");
      const moved = await read(pods.source, its);
      expect(await read(pods.target, its)).toEqual(moved);
      expect(moved.flat().length).toBeGreaterThan(50);
      expect(await read(pods.target, schema.contents(MOVED, "others"))).toEqual(residents);
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}\n${ddl}`, { cause: error });
    } finally {
      await pods?.remove();
    }
  },
  90_000,
);
