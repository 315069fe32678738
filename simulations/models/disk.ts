/** What a process finds again after a crash: only what was synced. A save in flight at a crash happened or did not. */
import { Decoder, Encoder } from "@msgpack/msgpack";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { AgentFacts, AgentMemory } from "../../protocol/ports/agent-memory.ts";
import type { Checkpoints } from "../../protocol/ports/checkpoints.ts";
import type { Chance } from "../world/random.ts";
import type { Run } from "./host.ts";

const encoder = new Encoder();
const decoder = new Decoder({ keyDecoder: null });

export class Disk {
  checkpoint: Uint8Array | null = null;
  facts: AgentFacts | null = null;
  /** Writes fail until then (full, or broken). */
  failsUntil = 0;
  /** A machine that is replaced comes with an empty one. */
  wipe(): void {
    this.checkpoint = null;
    this.facts = null;
  }
}

export class DiskClient implements Checkpoints {
  readonly #disk: Disk;
  readonly #run: Run;
  readonly #chance: Chance;
  readonly #onSaved: (state: ClusterState) => void;

  constructor(disk: Disk, run: Run, chance: Chance, onSaved: (state: ClusterState) => void) {
    this.#disk = disk;
    this.#run = run;
    this.#chance = chance;
    this.#onSaved = onSaved;
  }

  async load(): Promise<ClusterState | null> {
    return this.#disk.checkpoint === null ? null : (decoder.decode(this.#disk.checkpoint) as ClusterState);
  }

  async save(state: ClusterState): Promise<void> {
    const bytes = encoder.encode(state);
    this.#onSaved(state);
    await this.#write(() => {
      this.#disk.checkpoint = bytes;
    });
  }

  readonly memory: AgentMemory = {
    load: async () => this.#disk.facts,
    save: (facts) =>
      this.#write(() => {
        this.#disk.facts = facts;
      }),
  };

  /** The rename becomes durable somewhere between the call and its answer. */
  async #write(apply: () => void): Promise<void> {
    const { world, clock } = this.#run;
    const ms = this.#chance.skewed(0.3, 15);
    if (this.#disk.failsUntil > world.now) {
      await clock.sleep(ms);
      throw new Error("no space left on device");
    }
    world.after(ms * this.#chance.next(), "disk", () => {
      if (this.#run.alive) apply();
    });
    await clock.sleep(ms);
  }
}
