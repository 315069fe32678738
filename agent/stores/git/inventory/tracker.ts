/**
 * Keeps the inventory of a source true: hooks and owners in every repository, changes that the hook announces,
 * new and deleted repositories, and a sweep for what bypasses the hook. One per Pod, whatever the migrations.
 */
import { toCleaveError } from "../../../../protocol/errors.ts";
import type { Finding, OwnProblem } from "../../../../protocol/evidence.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import { Limiter } from "../../common/limiter.ts";
import type { RepositoryWatch } from "../backend/backend.ts";
import type { GitContext } from "../context.ts";
import { notWhole, ReturningHooks } from "../fence/returning-hooks.ts";
import type { InventoryView } from "../verification/inventory-view.ts";
import { ownerText } from "./repository-entry.ts";
import { isRepositoryPath } from "./repository-path.ts";

/** What a person is told of a lock that was there before the hook. */
export function unannouncedText(path: string, lock: string): string {
  return `${path} has had ${lock} since before its hook was there: a git that announced nothing holds it, or left it there when it was killed`;
}

const ADOPT_CONCURRENCY = 4;
/** How long a new folder may take to become a repository before it counts as broken. */
const MAKING_MS = 500;

export class Tracker {
  readonly #context: GitContext;
  readonly #watch: RepositoryWatch;
  readonly #limiter = new Limiter(ADOPT_CONCURRENCY);
  readonly #stopping = new AbortController();
  /** Path → what keeps the repository from being tracked. */
  readonly #problems = new Map<string, { readonly problem: OwnProblem; readonly owner: string | null }>();
  readonly #adopted = new Set<string>();
  readonly #returning: ReturningHooks;
  /** As the last check found them. */
  #headLocksSeen = new Set<string>();
  /** Path → locks of refs that were there when the hook came. */
  readonly #unannounced = new Map<string, ReadonlySet<string>>();
  readonly #adopting = new Map<string, Promise<void>>();
  #owners: ReadonlyMap<string, OrganizationId> = new Map();
  #hasHook = false;
  #started: Promise<void> | null = null;
  #complete = false;
  #stopWatching: () => void = () => undefined;
  #sweeping: Promise<void> = Promise.resolve();

  constructor(context: GitContext) {
    this.#context = context;
    this.#returning = new ReturningHooks(context.backend);
    this.#watch = context.backend.watch({
      found: (path) => this.#adopt(path),
      gone: async (path) => {
        this.#adopted.delete(path);
        this.#problems.delete(path);
        this.#returning.forget(path);
        await context.inventory.refresh(path);
      },
    });
  }

  /** Every repository has hook and owner and is in the inventory. */
  get complete(): boolean {
    return this.#complete;
  }

  get progress(): { done: number; total: number } {
    return { done: this.#adopted.size, total: Math.max(this.#watch.repositories.size, this.#adopted.size) };
  }

  problems(): OwnProblem[] {
    const tree = this.#watch.problems.map((message) => ({ code: "REPOSITORY_UNREADABLE" as const, message }));
    return [...this.absent(), ...[...this.#problems.values()].map(({ problem }) => problem), ...tree];
  }

  /** The root itself, and what is not there and does not count as deleted: no evidence while there is any. */
  absent(): OwnProblem[] {
    const { root, absence } = this.#context;
    return root.problem !== null ? [root.problem] : [...absence.problems];
  }

  /**
   * Repositories that could not be tracked and are the view's, or may be: nobody knows what they hold, or their
   * writers hear of no fence.
   */
  blocking(view: InventoryView): OwnProblem[] {
    return [...this.#problems.values()]
      .filter(({ owner }) => owner === null || view.owners.has(owner))
      .map(({ problem }) => problem);
  }

  /** Resolves when complete. A failure is thrown, and the next call begins again. */
  start(): Promise<void> {
    this.#started ??= this.#start().catch((error: unknown) => {
      this.#started = null;
      throw error;
    });
    return this.#started;
  }

  async close(): Promise<void> {
    this.#stopping.abort(new Error("the Git store is closing"));
    this.#stopWatching();
    this.#watch.close();
    await this.#sweeping;
  }

  /**
   * Hooks that are missing, changed or not executable: such a repository would not hear of the fence. And locks of writers
   * that announced nothing: a fence would wait for them.
   */
  async checkHooks(signal: AbortSignal): Promise<Finding[]> {
    const { backend, inventory } = this.#context;
    const findings: Finding[] = [];
    if (!this.#hasHook) return findings;
    for (const path of [...inventory.paths()]) {
      signal.throwIfAborted();
      if (await backend.isHookInForce(path).catch(() => false)) continue;
      if (!(await backend.exists(path))) continue;
      const message = `the hook of ${path} is not in force`;
      findings.push({ store: "git", severity: "error", code: "REPOSITORY_HOOK_DISABLED", message });
    }
    for (const [path, lock] of await this.unannounced(null, signal))
      findings.push({
        store: "git",
        severity: "error",
        code: "REPOSITORY_LOCKED",
        message: unannouncedText(path, lock),
      });
    const before = this.#headLocksSeen;
    this.#headLocksSeen = new Set();
    for await (const lock of (await backend.headLocks())?.foreign([...inventory.paths()]) ?? []) {
      // One that was not there at the last check is a push that is under way.
      this.#headLocksSeen.add(lock);
      if (!before.has(lock)) continue;
      const message = `${lock} is a git's that changes HEAD, or was left there when it was killed`;
      findings.push({ store: "git", severity: "error", code: "REPOSITORY_LOCKED", message });
    }
    return findings;
  }

  /**
   * At the fence, after the drain: everything that happened to the view's repositories is in the inventory when it
   * resolves. Costs what is dirty, not what there is.
   */
  async settle(view: InventoryView, signal: AbortSignal): Promise<void> {
    const { root, absence } = this.#context;
    absence.urgent = true;
    try {
      if ((await this.#watch.settled(signal)) === "listed") await this.#adoptReplaced(view, signal);
    } finally {
      absence.urgent = false;
    }
    // What was checked earlier has to hold still: all that was read before was read from this root.
    await root.require();
    await Promise.all([...this.#problems.keys()].map((path) => this.#adopt(path)));
    await this.#takeDirty((path) => {
      const entry = this.#context.inventory.get(path);
      return entry === undefined || view.covers(entry);
    });
  }

  /** What it is now, for a fence: with its hook in force, or as one that is new. */
  async lookAgain(path: string): Promise<void> {
    if (!(await this.#isHooked(path))) return this.#adoptAnew(path);
    await this.#context.inventory.refresh(path, { urgent: true });
  }

  #isHooked(path: string): Promise<boolean> {
    return this.#context.backend.isHookInForce(path).catch(() => false);
  }

  #adoptAnew(path: string): Promise<void> {
    this.#adopted.delete(path);
    return this.#adopt(path);
  }

  /** Changes may have been missed: another repository in the place of one that was known has no hook, and other content. */
  async #adoptReplaced(view: InventoryView, signal: AbortSignal): Promise<void> {
    for (const path of [...view.paths]) {
      signal.throwIfAborted();
      if (!(await this.#isHooked(path))) await this.#adoptAnew(path);
    }
  }

  async #start(): Promise<void> {
    const { backend, fence, ownerLookup, changed, root, absence, known, inventory } = this.#context;
    // The migration may be over by now, and whoever ended it releases the root.
    this.#stopping.signal.throwIfAborted();
    await root.establish();
    await backend.prepareHook();
    this.#hasHook = true;
    this.#owners = await ownerLookup.repositories();
    absence.noteNamed(this.#owners);
    const before = await known.open();
    await this.#watch.start();
    for (const [path, owner] of before) inventory.expect(path, owner);
    // Those that are there are read by now.
    const gone = [...before.keys()].filter((path) => !this.#watch.repositories.has(path));
    await Promise.all(gone.map((path) => inventory.refresh(path)));
    this.#stopping.signal.throwIfAborted();
    this.#stopWatching = fence.watchDirty("git", () => this.#takeDirty(() => true));
    this.#complete = true;
    this.#sweeping = this.#sweepForever();
    changed();
  }

  /** Installs hook and owner first and reads afterwards, so that nothing happens unseen in between. */
  #adopt(path: string): Promise<void> {
    if (this.#adopted.has(path)) return Promise.resolve();
    const running = this.#adopting.get(path);
    if (running !== undefined) return running;
    const adopting = this.#limiter
      .run(() => this.#adoptNow(path), this.#complete)
      .finally(() => this.#adopting.delete(path));
    this.#adopting.set(path, adopting);
    return adopting;
  }

  async #adoptNow(path: string): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    const { backend, inventory, changed, clock } = this.#context;
    let owner: string | null = null;
    try {
      await this.#untilWhole(path);
      let unhooked: unknown = null;
      // Whoever takes it apart would fail at what was put there meanwhile; and git works in nothing that is not whole.
      if (!(await backend.isWhole(path))) unhooked = notWhole();
      else
        await backend.installHook(path).catch((error: unknown) => {
          unhooked = error;
        });
      owner = await this.#ownerOf(path);
      await inventory.refresh(path, { owner, urgent: this.#complete });
      if (unhooked !== null) throw unhooked;
      // A writer that passed before the hook was there still holds its refs' locks, or has ended.
      const until = clock.monotonic() + MAKING_MS;
      while (inventory.locksOf(path).length > 0 && clock.monotonic() < until) {
        await clock.sleep(5, this.#stopping.signal);
        await inventory.refresh(path, { urgent: true });
      }
      this.#noteUnannounced(path);
      if (owner === null)
        this.#problem(path, null, "OWNER_UNKNOWN", `repository ${path} has no owner by the rules`);
      else {
        this.#problems.delete(path);
        this.#adopted.add(path);
      }
    } catch (thrown) {
      if (!(await backend.exists(path))) {
        this.#problems.delete(path);
        await inventory.refresh(path);
        return;
      }
      // Not complete yet, or not readable: tried again at the next look.
      const error = toCleaveError(thrown, "REPOSITORY_UNREADABLE");
      this.#problem(path, owner, error.code, `${path}: ${error.message}`);
      // It is there, whatever else is known of it: who follows must not take it for deleted.
      if (inventory.get(path) === undefined) await inventory.refresh(path);
    }
    changed();
  }

  /** The hook came after them: whoever holds these locks has announced nothing, and may still go on. */
  #noteUnannounced(path: string): void {
    const locks = this.#context.inventory.locksOf(path);
    if (locks.length > 0) this.#unannounced.set(path, new Set(locks));
  }

  /** Those of the view's repositories that are still locked as they were when their hook came: path → a lock. */
  async unannounced(view: InventoryView | null, signal: AbortSignal): Promise<Map<string, string>> {
    const { inventory } = this.#context;
    const found = new Map<string, string>();
    for (const [path, before] of [...this.#unannounced]) {
      signal.throwIfAborted();
      if (view !== null && !view.paths.has(path)) continue;
      // What was written under a lock is in the inventory before it is forgotten.
      await inventory.refresh(path, { urgent: true });
      const lock = inventory.locksOf(path).find((one) => before.has(one));
      if (lock === undefined) this.#unannounced.delete(path);
      else found.set(path, lock);
    }
    return found;
  }

  async #untilWhole(path: string): Promise<void> {
    for (let waitedMs = 0; waitedMs < MAKING_MS && this.#complete; waitedMs += 10) {
      if (await this.#context.backend.isWhole(path)) return;
      await this.#context.clock.sleep(10, this.#stopping.signal);
    }
  }

  #problem(path: string, owner: string | null, code: OwnProblem["code"], message: string): void {
    this.#problems.set(path, { owner, problem: { code, message: message.slice(0, 2_000) } });
  }

  async #ownerOf(path: string): Promise<string | null> {
    const organizationId = this.#owners.get(path) ?? (await this.#context.ownerLookup.repository(path));
    if (organizationId === null) return null;
    const owner = { kind: "organization", organizationId } as const;
    await this.#context.fence.setOwner(path, owner);
    return ownerText(owner);
  }

  async #takeDirty(concerns: (path: string) => boolean): Promise<void> {
    const { fence, inventory } = this.#context;
    const byPath = new Map<string, string[]>();
    const nameless: string[] = [];
    for (const { id, key } of await fence.takeDirty("git")) {
      if (key === null) {
        nameless.push(id);
        continue;
      }
      const ids = byPath.get(key);
      if (ids) ids.push(id);
      else byPath.set(key, [id]);
    }
    const work = [...byPath].map(async ([path, ids]) => {
      if (isRepositoryPath(path)) {
        if (!concerns(path)) return;
        if (inventory.get(path) === undefined || !this.#adopted.has(path)) await this.#adopt(path);
        else await inventory.refresh(path, { urgent: true });
      }
      for (const id of ids) await fence.acknowledgeDirty("git", id);
    });
    await Promise.all(work);
    if (nameless.length === 0) return;
    // Nobody can read which repository it was.
    await this.#watch.scan(this.#stopping.signal);
    for (const path of [...inventory.paths()])
      if (await inventory.looksChanged(path)) await inventory.refresh(path, { urgent: true });
    for (const id of nameless) await fence.acknowledgeDirty("git", id);
  }

  async #sweepForever(): Promise<void> {
    const { clock, config, log } = this.#context;
    const { signal } = this.#stopping;
    let sweptAt = clock.monotonic();
    while (!signal.aborted) {
      try {
        await clock.sleep(Math.min(config.scanSeconds, config.sweepSeconds) * 1_000, signal);
        const due = clock.monotonic() - sweptAt >= config.sweepSeconds * 1_000;
        if (due || this.#watch.blind) await this.#watch.scan(signal);
        // A repository may be there before its owner is, or before it is whole.
        for (const path of [...this.#problems.keys()]) await this.#adopt(path);
        for (const path of this.#returning.paths) await this.#putHookBack(path);
        if (!due) continue;
        await this.#sweep(signal);
        sweptAt = clock.monotonic();
      } catch (error) {
        if (!signal.aborted)
          log.warn({ err: error }, "the sweep of the repositories failed; it is tried again");
      }
    }
  }

  async #putHookBack(path: string): Promise<void> {
    const { inventory, log } = this.#context;
    try {
      if (!(await this.#returning.putBack(path))) return;
      log.warn({ path, code: "REPOSITORY_HOOK_DISABLED" }, "the hook was not in force and was put back");
      await inventory.refresh(path);
      this.#noteUnannounced(path);
    } catch (thrown) {
      this.#returning.forget(path);
      await this.#failed(path, thrown);
    }
  }

  /** It went, perhaps while it was looked at; or it is taken on anew, which tries all of it again. */
  async #failed(path: string, thrown: unknown): Promise<void> {
    const { backend, inventory } = this.#context;
    if (!(await backend.exists(path).catch(() => true))) return inventory.refresh(path);
    const error = toCleaveError(thrown, "REPOSITORY_UNREADABLE");
    this.#adopted.delete(path);
    this.#problem(path, inventory.get(path)?.owner ?? null, error.code, `${path}: ${error.message}`);
  }

  async #sweep(signal: AbortSignal): Promise<void> {
    const { backend, inventory, ownerLookup, root, absence } = this.#context;
    await root.require();
    this.#owners = await ownerLookup.repositories();
    absence.noteNamed(this.#owners);
    for (const path of [...inventory.paths()]) {
      signal.throwIfAborted();
      try {
        if (!(await backend.exists(path))) {
          await inventory.refresh(path);
          continue;
        }
        if (!(await backend.isHookInForce(path))) await this.#returning.note(path);
        inventory.setOwner(path, await this.#ownerOf(path));
        if (await inventory.looksChanged(path)) await inventory.refresh(path);
      } catch (thrown) {
        signal.throwIfAborted();
        await this.#failed(path, thrown);
      }
    }
  }
}
