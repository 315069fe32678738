/**
 * One inventory of this Pod's objects for all of its migrations, and who keeps it true: made when the first needs it, gone
 * with the last.
 */
import { join } from "node:path";
import { discardUntracked } from "../../file-fence/discard.ts";
import { Inventory } from "./inventory.ts";
import { SourceTracker, type SourceTrackerOptions } from "./tracker.ts";

export interface InventoryKeeperOptions extends Omit<SourceTrackerOptions, "inventory"> {
  readonly stateDirectory: string;
  /** Called for every object that is another now. */
  readonly onObject: () => void;
}

export class InventoryKeeper {
  readonly #options: InventoryKeeperOptions;
  readonly #stopDiscarding: () => void;
  #inventory: Promise<Inventory> | null = null;
  #tracker: SourceTracker | null = null;

  constructor(options: InventoryKeeperOptions) {
    this.#options = options;
    const isTracked = () => this.#tracker?.started ?? false;
    this.#stopDiscarding = discardUntracked(options.fence, "objects", isTracked);
  }

  inventory(): Promise<Inventory> {
    const { stateDirectory, onObject } = this.#options;
    this.#inventory ??= Inventory.open(join(stateDirectory, "inventory.jsonl")).then((inventory) => {
      inventory.onChange(onObject);
      return inventory;
    });
    return this.#inventory;
  }

  /** Not started: whoever needs it complete starts it. */
  tracker(): SourceTracker {
    this.#tracker ??= new SourceTracker({ ...this.#options, inventory: () => this.inventory() });
    return this.#tracker;
  }

  /** The last migration is gone, and with it everything that was kept for one. */
  async discard(): Promise<void> {
    this.#tracker?.close();
    this.#tracker = null;
    const inventory = this.inventory();
    await (await inventory).discard();
    this.#inventory = null;
    await this.#options.root.release();
  }

  stop(): void {
    this.#stopDiscarding();
    this.#tracker?.close();
    this.#options.root.close();
  }

  /** Resolves when the inventory, if there is one, is in its file. */
  async saved(): Promise<void> {
    await (await this.#inventory)?.saved();
  }
}
