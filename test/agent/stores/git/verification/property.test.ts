/**
 * Any history of git commands and edits against a copy that follows it: after the fence both are equal by a comparison that
 * shares nothing with the product, or the product has said why not. CLEAVE_GIT_HISTORIES says how many,
 * CLEAVE_GIT_HISTORY_SEED with which seed they begin; a repository each, some at a time on one pair of Pods.
 */
import { existsSync } from "node:fs";
import { expect, it } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import { GitHistory } from "../../../../support/git/histories.ts";
import { independentlyOf, isBroken } from "../../../../support/git/independent.ts";
import { GitSplit } from "../../../../support/git/split.ts";
import { removeLive } from "../../../../support/remove-live.ts";

const COUNT = Number(process.env["CLEAVE_GIT_HISTORIES"] ?? "4");
const FIRST = Number(process.env["CLEAVE_GIT_HISTORY_SEED"] ?? "1");
/** On one pair of Pods. */
const TOGETHER = 8;
const STEPS = 12;
const LAST_STEPS = 3;
const SETTLED_MS = 120_000;

const batches = Array.from({ length: Math.ceil(COUNT / TOGETHER) }, (_, index) =>
  Array.from(
    { length: Math.min(TOGETHER, COUNT - index * TOGETHER) },
    (_unused, n) => FIRST + index * TOGETHER + n,
  ),
);

it.each(batches.map((seeds) => [seeds[0], seeds.at(-1), seeds] as const))(
  "histories %s to %s",
  { timeout: SETTLED_MS * 3 },
  async (_first, _last, seeds) => {
    const split = await GitSplit.create();
    try {
      const { pod } = split.source;
      await pod.repository("red/lender.git");
      /** Those that git can copy; of others something was said, and then they are gone. */
      const withoutBroken = async (among: readonly GitHistory[]) => {
        const whole: GitHistory[] = [];
        for (const history of among) {
          if (!(await isBroken(history.folder))) {
            whole.push(history);
            continue;
          }
          // Some commands of git's own lose objects; then that is what has to be said.
          await eventually(() => {
            const problems = [split.source, split.target].flatMap((side) => split.status(side).problems);
            const said = problems.some(({ message }) => message.startsWith(history.path));
            expect({ seed: history.seed, steps: history.done, said }).toMatchObject({ said: true });
          }, SETTLED_MS);
          await removeLive(history.folder);
        }
        return whole;
      };
      const histories = await Promise.all(seeds.map((seed) => GitHistory.begin(pod, seed)));
      await Promise.all(histories.map((history) => history.steps(STEPS / 3)));
      await split.reach(split.source, "prepare", "source");
      // What is refused from the beginning keeps a copy from being seeded until that is over.
      const seeded = split.reach(split.target, "seed", "source", null, SETTLED_MS * 3);
      await Promise.all(histories.map((history) => history.steps(STEPS / 3)));
      for (const history of histories)
        if (history.refusal !== null) {
          const refusal = history.refusal;
          await eventually(() => {
            const said = split.status(split.source).problems.map(({ message }) => message);
            const found = said.some(
              (text) => text.startsWith(`${history.path}: `) && text.includes(refusal.says),
            );
            expect({ seed: history.seed, steps: history.done, found, said }).toMatchObject({ found: true });
          }, SETTLED_MS);
          await history.undoRefusal();
        }
      const begun = await withoutBroken(histories);
      await seeded;
      await split.reach(split.source, "serve", "source");
      await split.reach(split.target, "follow", "source");
      await Promise.all(begun.map((history) => history.steps(STEPS / 3, { refused: false })));
      const whole = await withoutBroken(begun);
      await eventually(() => expect(split.status(split.target).lag?.amount).toBe(0), SETTLED_MS);
      for (const history of whole) await history.steps(LAST_STEPS, { refused: false });
      for (const { folder } of whole) if (await isBroken(folder)) await removeLive(folder);
      await Promise.all([
        split.reach(split.source, "fence", "fenced", 1, SETTLED_MS),
        split.reach(split.target, "match", "fenced", 1, SETTLED_MS).catch((error: unknown) => {
          const { problems } = split.status(split.target);
          const states = histories.filter(({ path }) =>
            problems.some(({ message }) => message.startsWith(path)),
          );
          const told = states.map(({ seed, done }) => ({ seed, done }));
          throw new Error(JSON.stringify({ problems, told }), { cause: error });
        }),
      ]);
      expect(split.status(split.source).evidence).not.toBeNull();
      expect(split.status(split.target).evidence?.digest).toBe(split.status(split.source).evidence?.digest);
      for (const history of whole) {
        if (!existsSync(history.folder)) continue;
        const told = { seed: history.seed, steps: history.done };
        const copy = await independentlyOf(split.target.pod.path(history.path));
        expect({ ...told, ...copy }).toEqual({ ...told, ...(await independentlyOf(pod.path(history.path))) });
      }
    } finally {
      await split.remove();
    }
  },
);
