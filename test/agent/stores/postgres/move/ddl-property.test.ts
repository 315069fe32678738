/**
 * Any history of an application and its deployments against a move that follows it: after the fence everything is equal by
 * a comparison that shares nothing with the product, or the move has said why not. CLEAVE_HISTORIES says how many,
 * CLEAVE_HISTORY_SEED with which seed they begin; a seed is of one move, of so many worlds and rounds.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { kindsOf, Worlds } from "../../../../support/postgres/histories.ts";
import { HistoryRun } from "../../../../support/postgres/history-runs.ts";
import { SCHEMA_KINDS } from "../../../../support/postgres/history-steps.ts";
import { FROM, TO } from "../../../../support/postgres/move-pods.ts";
import { Cluster } from "../../../../support/postgres/postgres.ts";

const COUNT = Number(process.env["CLEAVE_HISTORIES"] ?? "300");
const FIRST = Number(process.env["CLEAVE_HISTORY_SEED"] ?? "1");
const WORLDS = Number(process.env["CLEAVE_HISTORY_WORLDS"] ?? "8");
const ROUNDS = 8;
/** Moves that go on side by side. */
const LANES = Number(process.env["CLEAVE_HISTORY_LANES"] ?? "2");

/** Kinds of steps that are left out, with the reason. */
const EXCLUDED: Readonly<Record<string, string>> = {};
/** Kinds that a move may refuse to follow, with the reason; any other is followed. */
const MAY_BE_REFUSED: Readonly<Record<string, string>> = {};
/** In most rounds the last moment has no change of the schema, for these keep a fence from going up. */
const SCHEMA_CHANGES_EVERY = 4;

let servers: { source: Cluster; target: Cluster };
beforeAll(async () => {
  const settings = {
    wal_level: "logical",
    max_replication_slots: "20",
    max_wal_senders: "20",
    max_connections: "200",
  };
  const [source, target] = await Promise.all([
    Cluster.start({ podId: FROM, settings }),
    Cluster.start({ podId: TO, settings }),
  ]);
  servers = { source, target };
}, 60_000);
afterAll(async () => {
  await servers?.source.remove();
  await servers?.target.remove();
});

async function playSeed(seed: number, rounds: number): Promise<{ played: number; refused: string | null }> {
  const worlds = new Worlds(seed, WORLDS, new Set(Object.keys(EXCLUDED)));
  const run = await HistoryRun.start(servers, worlds);
  try {
    for (let round = 1; round <= rounds; round++) {
      const without = round % SCHEMA_CHANGES_EVERY === 0 ? new Set<string>() : SCHEMA_KINDS;
      const histories = new Map(worlds.all.map((world) => [world, world.next(without)]));
      const inWords = () => [...histories].map(([world, history]) => world.describe(history)).join("\n");
      try {
        const refusal = await run.play(histories);
        if (refusal === null) continue;
        const line = `seed ${seed}, round ${round}, refused: ${refusal.why}\n${inWords()}`;
        if (![...histories.values()].some((one) => kindsOf(one).some((kind) => kind in MAY_BE_REFUSED)))
          throw new Error(line);
        return { played: round * WORLDS, refused: line };
      } catch (error) {
        throw new Error(`seed ${seed}, round ${round}: ${(error as Error).message}\n${inWords()}`, {
          cause: error,
        });
      }
    }
    return { played: rounds * WORLDS, refused: null };
  } finally {
    await run.end();
  }
}

it(
  `${COUNT} histories from seed ${FIRST} are carried over, or the move says why not`,
  async () => {
    const failures: string[] = [];
    const refusals: string[] = [];
    let left = COUNT;
    let next = FIRST;
    const lane = async () => {
      while (left > 0) {
        const rounds = Math.min(ROUNDS, Math.ceil(left / WORLDS));
        left -= rounds * WORLDS;
        const seed = next++;
        try {
          const { refused } = await playSeed(seed, rounds);
          if (refused !== null) refusals.push(refused);
        } catch (error) {
          failures.push((error as Error).message);
        }
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    if (process.env["CLEAVE_HISTORY_REFUSALS"]) console.info(refusals.join("\n"));
    expect(failures.join("\n\n")).toBe("");
  },
  60_000 + COUNT * 5_000,
);
