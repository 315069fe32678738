/** Follows a cluster's log and kills processes at the moments at which a migration reaches states of its lifecycle. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Layout } from "../../examples/quickstart/cluster/layout.ts";
import type { Processes } from "../../examples/quickstart/cluster/processes.ts";
import { waitFor } from "../../examples/quickstart/cluster/waiting.ts";
import { MIGRATION } from "../../examples/quickstart/split.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import { hold, letGo } from "./hold.ts";
import { LifecycleWatch } from "./lifecycle-watch.ts";

export interface Kill {
  /** Of the process. */
  readonly name: string;
  /** The state at whose first record the process is killed. */
  readonly at: Lifecycle;
  /** After that record. */
  readonly delayMs?: number;
}

/** What every agent and coordinator logs when it has caught up with the log. */
const WORKS = "the log is read; the ";
const COMES_BACK_WITHIN_MS = 240_000;
/** It stays dead for this long: as long as a supervisor takes. */
const AWAY_MS = 300;

export class Saboteur {
  readonly #processes: Processes;
  readonly #logs: string;
  readonly #folder: string;
  readonly #kills: readonly Kill[];
  readonly #watch: LifecycleWatch;
  /** By process, one kill after the other: it has to run to be killed. */
  readonly #done = new Map<string, Promise<void>>();
  readonly #begun = new Set<Kill>();
  /** What was killed at which record, and is known to be gone; in that order. */
  readonly killed: Pick<Kill, "name" | "at">[] = [];

  constructor(layout: Layout, processes: Processes, kills: readonly Kill[], migration: string = MIGRATION) {
    this.#processes = processes;
    this.#logs = layout.logs;
    this.#folder = layout.folder;
    this.#kills = kills;
    this.#watch = new LifecycleWatch(layout, migration, (lifecycle) => {
      for (const kill of kills) {
        const { name, at } = kill;
        if (lifecycle !== at || this.#begun.has(kill)) continue;
        this.#begun.add(kill);
        const before = this.#done.get(name) ?? Promise.resolve();
        this.#done.set(
          name,
          before.then(() => this.#strike(kill)),
        );
      }
    });
  }

  async start(): Promise<void> {
    // Without that the evidence may be complete with the drain, and nobody ever sees a log that ends in `matching`.
    if (this.#kills.some(({ at }) => at === "matching")) hold(this.#folder);
    await this.#watch.start();
  }

  /** Resolves when whatever was killed runs again; at once when nothing was. */
  async finished(): Promise<void> {
    await Promise.all(this.#done.values());
  }

  async stop(): Promise<void> {
    letGo(this.#folder);
    await this.finished();
    await this.#watch.stop();
  }

  /** One that was killed before has come back: killing what only begins to start would show nothing. */
  async #works(name: string): Promise<void> {
    const starts = this.killed.filter((kill) => kill.name === name).length + 1;
    const log = join(this.#logs, `${name}.log`);
    const begun = () => readFileSync(log, "utf8").split(WORKS).length - 1;
    await waitFor(`${name} at work`, async () => (begun() >= starts ? true : null), {
      withinMs: COMES_BACK_WITHIN_MS,
    });
  }

  async #strike({ name, at, delayMs }: Kill): Promise<void> {
    await this.#works(name);
    if (delayMs !== undefined) await sleep(delayMs);
    const startAgain = await this.#processes.kill(name);
    this.killed.push({ name, at });
    if (at === "matching") letGo(this.#folder);
    await sleep(AWAY_MS);
    startAgain();
  }
}
