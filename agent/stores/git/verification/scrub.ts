/** The scrub of a copy of repositories: references and files read again, and every object by `git fsck`. */
import type { ScrubStatus } from "../../../../protocol/evidence.ts";
import { Scrub } from "../../common/verification/scrub.ts";
import type { Limits, Reading, Scrubbed } from "../../common/verification/scrubbed.ts";
import type { GitContext } from "../context.ts";
import type { Replica } from "../replication/replica.ts";
import type { InventoryView } from "./inventory-view.ts";

const PAGE = 1_000;
/** A repository of more bytes of objects is read in part when it was added to, and as a whole in the next pass. */
const LARGE_BYTES = 8 * 1024 * 1024;

export interface GitScrubOptions {
  readonly context: GitContext;
  readonly replica: Replica;
  /** What evidence is about. */
  readonly view: InventoryView;
  /** Only the view's repositories are copies; else all that are here. */
  readonly selective: boolean;
  readonly limits: Limits;
  readonly onChange: () => void;
}

export class GitScrub implements Scrubbed {
  readonly #options: GitScrubOptions;
  readonly #scrub: Scrub;
  /** Of the inventory: looked at up to here. */
  #seen = 0;

  constructor(options: GitScrubOptions) {
    this.#options = options;
    const { context, limits, onChange } = options;
    const { clock, log, scrubbed } = context;
    this.#scrub = new Scrub({ scrubbed: this, memory: scrubbed, clock, log, ...limits, onChange });
  }

  /** As often as something was copied. */
  start(): void {
    this.#scrub.start();
    this.#scrub.wake();
  }

  stop(): Promise<void> {
    return this.#scrub.stop();
  }

  get verified(): boolean {
    return this.#scrub.verified;
  }

  /** At the fence of that epoch: see `Scrub`. */
  confirms(epoch: number): boolean {
    return this.#scrub.confirms(epoch);
  }

  relax(): void {
    this.#scrub.relax();
  }

  status(): ScrubStatus {
    return this.#scrub.status();
  }

  // What is scrubbed --------------------------------------------------------------------------------------------

  *names(): Generator<string> {
    const { context, selective, view } = this.#options;
    if (selective) yield* view.paths;
    else yield* context.inventory.paths();
  }

  get size(): number {
    const { selective, view, replica } = this.#options;
    return selective ? view.paths.size : replica.progress.total;
  }

  *changed(): Generator<string> {
    const { inventory } = this.#options.context;
    while (this.#seen !== inventory.generation) {
      const { entries, generation } = inventory.changesSince(this.#seen, PAGE);
      this.#seen = generation;
      for (const entry of entries) if (!entry.deleted && this.#isCopy(entry.path)) yield entry.path;
    }
  }

  belief(path: string): object | null {
    const { context, replica } = this.#options;
    const entry = context.inventory.get(path);
    return entry === undefined || entry.deleted || replica.isPending(path) ? null : entry;
  }

  isGone(path: string): boolean {
    const { context, replica } = this.#options;
    return (context.inventory.get(path)?.deleted ?? true) && !replica.isPending(path);
  }

  isAssigned(path: string): boolean {
    return this.#options.view.paths.has(path);
  }

  bytes(path: string): number {
    return this.#options.context.scrubbed.looks.get(path)?.bytes ?? 0;
  }

  async looksSame(path: string): Promise<boolean> {
    const { backend, inventory, scrubbed } = this.#options.context;
    if (await inventory.looksChanged(path)) return false;
    return (await backend.lookAtObjects(path)).version === scrubbed.looks.get(path)?.version;
  }

  async read(path: string, signal: AbortSignal, take: (bytes: number) => Promise<void>): Promise<Reading> {
    const { context, replica } = this.#options;
    const { backend, inventory, scrubbed } = context;
    const before = this.belief(path);
    if (before === null) return { why: null, belief: null };
    // Before anything is read, so that what is written meanwhile looks other than this.
    const look = await backend.lookAtObjects(path).catch(() => null);
    await inventory.refresh(path);
    const now = inventory.get(path);
    if (replica.isPending(path)) return { why: null, belief: null };
    if (now === undefined || now !== before) {
      const why = now?.deleted ? "it is not there any more" : (now?.detail ?? "");
      return { why: why || "references or files are others than were copied", belief: now ?? null };
    }
    if (look === null) return { why: "its objects cannot be listed", belief: before };
    const isLarge = look.bytes > LARGE_BYTES;
    // In this order: what is pushed between the two is read once more the next time.
    const tips = isLarge ? await backend.tips(path) : null;
    const { since } = scrubbed.looks.get(path) ?? {};
    // Fetched since it was read: the window must not grow with what was there before. The next pass reads all of it.
    const isGrown = isLarge && since !== undefined && since.content !== now.refs;
    if (!isGrown) await take(look.bytes);
    const why = isGrown
      ? await backend.verifyNew(path, since.tips, signal)
      : await backend.verify(path, signal);
    if (why === null)
      scrubbed.looks.set(path, { ...look, ...(tips === null ? {} : { since: { content: now.refs, tips } }) });
    return { why, belief: before };
  }

  damaged(path: string, why: string): void {
    this.#options.replica.repair(path, why);
  }

  #isCopy(path: string): boolean {
    const { selective, view } = this.#options;
    return !selective || view.paths.has(path);
  }
}
