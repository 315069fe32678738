/**
 * The root of one store of one Pod, as this agent knows it: remembered over restarts, and asked before anything is taken
 * for deleted (protocol, rule 15). Every look asks before it begins and after it has ended, for a disk may go meanwhile.
 */
import { randomUUID } from "node:crypto";
import { CleaveError, toCleaveError } from "../../../../protocol/errors.ts";
import type { OwnProblem } from "../../../../protocol/evidence.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import type { IdentifiedRoot, RootIdentity } from "./identity.ts";
import { type Remembered, readRemembered, removeRemembered, writeRemembered } from "./remembered.ts";

const LOOK_MS = 1_000;

export interface KnownRootOptions {
  readonly root: IdentifiedRoot;
  /** For people. */
  readonly place: string;
  /** A folder of the store's own, beside the root. */
  readonly stateDirectory: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** The problem is another one now. */
  readonly onChange: () => void;
}

export class KnownRoot {
  readonly #options: KnownRootOptions;
  readonly #closing = new AbortController();
  /** What the checks before a migration saw, of a root that is not known yet. */
  #seen: RootIdentity | null = null;
  #problem: OwnProblem | null = null;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #running: Promise<void> = Promise.resolve();
  #confirming: Promise<void> | null = null;
  #changing: Promise<void> = Promise.resolve();
  #watching = false;
  #lossesAcceptedAt = 0;

  constructor(options: KnownRootOptions) {
    this.#options = options;
  }

  /** Why nothing that is missing there counts as deleted, as of the last look, which is about a second old. */
  get problem(): OwnProblem | null {
    return this.#problem;
  }

  /** When an operator said that what is gone is meant to be, in milliseconds since 1970; 0: never. */
  get lossesAcceptedAt(): number {
    return this.#lossesAcceptedAt;
  }

  /** Null when no mark could be made, or none is known. */
  async id(): Promise<string | null> {
    return (await readRemembered(this.#options.stateDirectory))?.id ?? null;
  }

  /**
   * Resolves when the root is there, readable, whole, and the one that is known; at once when none is known yet.
   * @throws CleaveError ROOT_CHANGED, ROOT_UNREADABLE; ROOT_FORGOTTEN when what was known is damaged.
   */
  async require(): Promise<void> {
    const { place, root, log, stateDirectory } = this.#options;
    try {
      const remembered = await readRemembered(stateDirectory);
      const known = remembered ?? this.#seen;
      if (known === null) return this.#say(null);
      const found = await root.identify();
      const difference = root.differenceOf(known, found);
      if (difference !== null) throw new CleaveError("ROOT_CHANGED", `${place} ${difference}`);
      this.#lossesAcceptedAt = remembered?.accepted?.lossesAt ?? 0;
      // The machine was started again, or the device has another number since.
      if (remembered !== null && !sameTraits(known, found))
        await writeRemembered(stateDirectory, { ...remembered, ...found });
      this.#lookedAt = this.#options.clock.monotonic();
      this.#say(null);
    } catch (thrown) {
      const error = toCleaveError(thrown, "ROOT_UNREADABLE");
      if (this.#problem === null) log.error({ code: error.code }, error.message);
      this.doubt();
      this.#say({ code: error.code, message: error.message.slice(0, 2_000) });
      throw error;
    }
  }

  /** The same before something is written: a look of the last second is good enough, since `confirm` follows. */
  async requireLately(): Promise<void> {
    if (this.#options.clock.monotonic() - this.#lookedAt > LOOK_MS) await this.require();
  }

  /** The same after something was written: by a look that begins now, or soon and for others too. */
  confirm(): Promise<void> {
    this.#confirming ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#confirming = null;
        this.#running = this.require();
        return this.#running;
      });
    return this.#confirming;
  }

  /** Something is missing that should be there: the next look is a new one. */
  doubt(): void {
    this.#lookedAt = Number.NEGATIVE_INFINITY;
  }

  /**
   * For checks that change nothing: of a root that is not known yet, what is there now is what has to be there when it is
   * marked. @throws as `require`.
   */
  async note(): Promise<void> {
    this.#seen = null;
    await this.require();
    // Whether it can be used at all is for the store's own checks to say.
    if ((await this.#remembered()) === null)
      this.#seen = await this.#options.root.identify().catch(() => null);
  }

  /**
   * From now on this is the root. It is marked when nothing is known yet; `anew`: with an id of its own, whatever mark it
   * has. @throws as `require`; DISK_FULL.
   */
  establish({ anew }: { readonly anew: boolean } = { anew: false }): Promise<void> {
    return this.#inTurn(() => this.#establish(anew));
  }

  async #establish(anew: boolean): Promise<void> {
    const { root, log, stateDirectory } = this.#options;
    this.#watch();
    await this.require();
    if ((await this.#remembered()) !== null) return;
    const before = await root.identify();
    if (before.id === null || anew)
      await root.mark(randomUUID()).catch((error: unknown) => {
        // Known by folder, device and file system alone: good enough to tell it from another one.
        if (toCleaveError(error).code !== "FILE_PERMISSION") throw error;
        log.warn({ err: error }, "the root carries no mark");
      });
    await writeRemembered(stateDirectory, await root.identify());
    this.#seen = null;
  }

  /**
   * Nothing of any migration is left: the mark goes, if it is this root's, and what was known of it. Also a mark that is just
   * being made for a migration that was aborted meanwhile.
   */
  release(): Promise<void> {
    return this.#inTurn(() => this.#release());
  }

  async #release(): Promise<void> {
    const { root, log, stateDirectory } = this.#options;
    const known = await this.#remembered();
    if (known === null) return;
    try {
      if (root.differenceOf(known, await root.identify()) === null) await root.unmark();
    } catch (error) {
      log.warn({ err: error }, "the mark of the root stays");
    }
    await removeRemembered(stateDirectory);
    this.#seen = null;
    this.#say(null);
  }

  /** A root is marked and remembered as one: nothing is released in between. */
  #inTurn(change: () => Promise<void>): Promise<void> {
    const turn = this.#changing.then(change);
    this.#changing = turn.catch(() => undefined);
    return turn;
  }

  close(): void {
    this.#closing.abort(new Error("the store is closing"));
  }

  #remembered(): Promise<Remembered | null> {
    return readRemembered(this.#options.stateDirectory);
  }

  #say(problem: OwnProblem | null): void {
    const same = this.#problem?.code === problem?.code && this.#problem?.message === problem?.message;
    this.#problem = problem;
    if (!same) this.#options.onChange();
  }

  /** Somebody should hear of it although nobody looks. */
  #watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    const { clock } = this.#options;
    const { signal } = this.#closing;
    const forEver = async () => {
      for (;;) {
        await clock.sleep(LOOK_MS, signal);
        await this.require().catch(() => undefined);
      }
    };
    void forEver().catch(() => undefined);
  }
}

function sameTraits(a: RootIdentity, b: RootIdentity): boolean {
  return JSON.stringify([a.id, a.traits]) === JSON.stringify([b.id, b.traits]);
}
