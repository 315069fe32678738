/**
 * Small splits, moves and rollbacks in which processes are killed with -9: each process in every state of the lifecycle. A
 * run is long and a kill is short, so one run has a kill in each of its states, of one process after the other.
 */
import { expect } from "vitest";
import type { Report } from "../../examples/quickstart/report/report.ts";
import { BUSIEST } from "../../examples/quickstart/run-move.ts";
import { ROLLBACK } from "../../examples/quickstart/run-rollback.ts";
import { MIGRATION } from "../../examples/quickstart/split.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import { type Kill, Saboteur } from "./saboteur.ts";
import type { SmallSplit } from "./small-split.ts";

/**
 * Where a process can be met. `transferring` cannot be: consensus and transfer are one record of the log, so nobody ever sees
 * a log that ends between them. What comes after `retaining` is killed in test/e2e/lifecycle.test.ts.
 */
const STATES: readonly Lifecycle[] = [
  "planned",
  "preflight",
  "seeding",
  "following",
  "ready",
  "fencing",
  "matching",
  "activating",
  "retaining",
];

/** In these the work of a state is hit in its middle; the cutover's are over within milliseconds. */
const DELAY_MS: Partial<Record<Lifecycle, number>> = { preflight: 100, seeding: 400, following: 200 };

/** Of each kind of migration: its name in the demo, and who takes part. */
const STORIES = {
  split: { migration: MIGRATION, processes: ["coordinator", "agent-pod-0", "agent-pod-100"] },
  move: { migration: BUSIEST, processes: ["coordinator", "agent-pod-0", "agent-pod-1"] },
  rollback: { migration: ROLLBACK, processes: ["coordinator", "agent-pod-100", "agent-pod-0"] },
} as const;
type Story = keyof typeof STORIES;

export const ROUNDS = [0, 1, 2] as const;

/** Who is killed where: in three rounds everybody is killed everywhere, and nobody in two states that follow each other. */
export function killsOf(story: Story, round: number): Kill[] {
  const { processes } = STORIES[story];
  // A rollback is planned and started in one record, so that nobody meets it in `planned`.
  return STATES.filter((at) => story !== "rollback" || at !== "planned").map((at): Kill => {
    const delayMs = DELAY_MS[at];
    return {
      name: processes[(STATES.indexOf(at) + round) % processes.length] as string,
      at,
      ...(delayMs === undefined ? {} : { delayMs }),
    };
  });
}

/** Kills in every state of one migration. */
export class Killing {
  readonly #story: Story;
  readonly #kills: readonly Kill[];
  #saboteur: Saboteur | undefined;

  constructor(story: Story, round: number) {
    this.#story = story;
    this.#kills = killsOf(story, round);
  }

  /** Before the migration is planned; where somebody is killed in `planned`, it is planned here. */
  readonly start: NonNullable<SmallSplit["beforeSplit"]> = async ({
    coordinator,
    layout,
    planFile,
    processes,
  }) => {
    const { migration } = STORIES[this.#story];
    this.#saboteur = new Saboteur(layout, processes, this.#kills, migration);
    await this.#saboteur.start();
    const [first] = this.#kills;
    if (first?.at !== "planned") return;
    // The coordinator may be killed between its decision and its answer.
    const answered = coordinator.cleave("plan", planFile);
    await (first.name === "coordinator" ? answered.catch(() => undefined) : answered);
    await this.#saboteur.finished();
    await coordinator.migration(migration);
  };

  /** Resolves when everybody was killed as was planned, and runs again. */
  async finished(): Promise<void> {
    await this.#saboteur?.finished();
    const told = (kills: readonly Pick<Kill, "name" | "at">[] = []) =>
      kills.map(({ name, at }) => `${name} in ${at}`).sort();
    expect(told(this.#saboteur?.killed)).toEqual(told(this.#kills));
  }

  async stop(): Promise<void> {
    await this.#saboteur?.stop();
  }
}

/** Neighbours of a source whose agent is dead wait for it as everybody does, so `neighbourRefusals` may count. */
export function expectNothingLost({
  lostWrites,
  duplicatedWrites,
  staleReads,
  failedRequests,
}: Report): void {
  const nothing = { lostWrites: 0, duplicatedWrites: 0, staleReads: 0, failedRequests: 0 };
  expect({ lostWrites, duplicatedWrites, staleReads, failedRequests }).toEqual(nothing);
}
