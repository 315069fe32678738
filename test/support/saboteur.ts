/** Follows a cluster's log and kills a process at the moments at which a migration reaches states of its lifecycle. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Layout } from "../../examples/quickstart/cluster/layout.ts";
import type { Processes } from "../../examples/quickstart/cluster/processes.ts";
import { waitFor } from "../../examples/quickstart/cluster/waiting.ts";
import { MIGRATION } from "../../examples/quickstart/split.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import { LifecycleWatch } from "./lifecycle-watch.ts";

export interface Kill {
  /** The state at whose first record the process is killed. */
  readonly at: Lifecycle;
  /** After that record. */
  readonly delayMs?: number;
  /**
   * A process that stands still from the fence to the kill. Without one the evidence may be complete with the drain,
   * and then nobody ever sees a log that ends in `matching`.
   */
  readonly pausedFromFence?: string;
}

/** What every agent and coordinator logs when it has caught up with the log. */
const WORKS = "the log is read; the ";
const COMES_BACK_WITHIN_MS = 240_000;
/** It stays dead for this long: as long as a supervisor takes. */
const AWAY_MS = 300;

export class Saboteur {
  readonly #processes: Processes;
  readonly #name: string;
  readonly #logs: string;
  readonly #watch: LifecycleWatch;
  /** One kill after the other: the process has to run to be killed. */
  #done: Promise<void> = Promise.resolve();
  #resume: (() => void) | null = null;
  readonly #begun = new Set<Kill>();
  /** The states at whose record the process was killed, and is known to be gone. */
  readonly killedAt: Lifecycle[] = [];

  /** @param name of the process */
  constructor(
    layout: Layout,
    processes: Processes,
    name: string,
    kills: readonly Kill[],
    migration: string = MIGRATION,
  ) {
    this.#processes = processes;
    this.#name = name;
    this.#logs = layout.logs;
    this.#watch = new LifecycleWatch(layout, migration, (lifecycle) => {
      for (const kill of kills) {
        if (lifecycle === "fencing" && kill.pausedFromFence !== undefined)
          this.#resume ??= processes.pause(kill.pausedFromFence);
        if (lifecycle !== kill.at || this.#begun.has(kill)) continue;
        this.#begun.add(kill);
        this.#done = this.#done.then(() => this.#strike(kill));
      }
    });
  }

  async start(): Promise<void> {
    await this.#watch.start();
  }

  /** Resolves when the process runs again; at once when it was not killed. */
  async finished(): Promise<void> {
    await this.#done;
  }

  async stop(): Promise<void> {
    this.#resume?.();
    await this.finished();
    await this.#watch.stop();
  }

  /** One that was killed before has come back: killing what only begins to start would show nothing. */
  async #works(): Promise<void> {
    const starts = this.killedAt.length + 1;
    const log = join(this.#logs, `${this.#name}.log`);
    const begun = () => readFileSync(log, "utf8").split(WORKS).length - 1;
    await waitFor(`${this.#name} at work`, async () => (begun() >= starts ? true : null), {
      withinMs: COMES_BACK_WITHIN_MS,
    });
  }

  async #strike({ at, delayMs }: Kill): Promise<void> {
    await this.#works();
    if (delayMs !== undefined) await sleep(delayMs);
    const startAgain = await this.#processes.kill(this.#name);
    this.killedAt.push(at);
    this.#resume?.();
    await sleep(AWAY_MS);
    startAgain();
  }
}
