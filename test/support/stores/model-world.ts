/**
 * A simulated world for tests that are written for real adapters: while it runs, virtual time goes on step by step beside
 * the test, which awaits the models' promises as it would any other.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Host, Run } from "../../../simulations/models/host.ts";
import { Network } from "../../../simulations/models/network.ts";
import { World } from "../../../simulations/world/world.ts";

/** Virtual milliseconds between two looks at what the test does. */
const STEP_MS = 5;

export class ModelWorld {
  readonly world = new World(1);
  readonly network = new Network(this.world);
  #processes = 0;
  #closed = false;
  readonly #driving: Promise<void>;

  constructor() {
    this.#driving = this.#drive();
  }

  /** A process on a machine of that name, or of one of its own. */
  process(host = `process-${++this.#processes}`): Run {
    return new Run(this.world, new Host(host));
  }

  async #drive(): Promise<void> {
    while (!this.#closed) {
      await this.world.run(this.world.now + STEP_MS, Number.POSITIVE_INFINITY, () => false);
      await sleep(0);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#driving;
  }
}
