/**
 * A target's running copy of its source: listens for news, mirrors what differs (assigned organizations first), and
 * knows at every moment what is missing. Equal means: this Pod's own reading of its own repository equals the
 * source's reading of its own.
 */

import { toCleaveError } from "../../../../protocol/errors.ts";
import type { Problem } from "../../../../protocol/evidence.ts";
import { Pause } from "../../../../protocol/pause.ts";
import { tally } from "../../../../protocol/telemetry/tally.ts";
import { Conditions } from "../../common/conditions.ts";
import { Unnamed } from "../../common/root/unnamed.ts";
import { listed } from "../../common/verification/named.ts";
import { type RepositoryEntry, sameRepository } from "../inventory/repository-entry.ts";
import { isRepositoryPath } from "../inventory/repository-path.ts";
import { Describing } from "../verification/describing.ts";
import { wholeDifferences } from "../verification/differences.ts";
import { failureOf, newsOf, notTried, type Pending, pauseMs, problemsOf, RETRY_MS } from "./attempts.ts";
import type { ChangesAnswer } from "./peer-protocol.ts";
import { type ReplicaOptions, unusable } from "./replica-options.ts";

const POLL_MS = 5_000;
const OWN_ENTRIES = 1_000;
/** Attempts that leave a difference before somebody is told of it. */
const DESCRIBED_AFTER = 2;

export class Replica {
  readonly #options: ReplicaOptions;
  readonly #stopping = new AbortController();
  readonly #source = new Map<string, RepositoryEntry>();
  readonly #pending = new Map<string, Pending>();
  readonly #conditions = new Conditions();
  /** Copies that the source did not name, too many to be deleted for that. */
  readonly #unnamed: Unnamed;
  readonly #work: Promise<unknown>;
  readonly #describing: Describing;
  #incarnation = "";
  #next = 0;
  /** Of this Pod's own inventory: looked at up to here. */
  #ownNext = 0;
  #fencedEpoch: number | null = null;
  #finalGeneration: number | null = null;
  #finalDigest: string | null = null;
  /** Everything of this incarnation has been heard at least once. */
  #complete = false;
  #connected = false;
  #problem: Problem | null = null;
  /** One of each worker. */
  readonly #pauses: readonly Pause[];
  /** In the window: short pauses, since it is for milliseconds. */
  urgent = false;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    const { concurrency, context, feed, source } = options;
    this.#describing = new Describing(context, feed, source, this.#stopping.signal);
    this.#unnamed = new Unnamed({ ...context, lossBound: context.config.lossBound });
    this.#pauses = Array.from({ length: concurrency }, () => new Pause(context.clock));
    const workers = this.#pauses.map((pause) => this.#mirrorForever(pause));
    this.#work = Promise.all([this.#listen(), ...workers]);
  }

  async close(): Promise<void> {
    this.#stopping.abort(new Error("the replica is closing"));
    this.#wakeWorkers();
    await this.#work;
  }

  /** Repositories of assigned organizations that are known to differ; null when news may have been missed. */
  get lag(): number | null {
    if (!this.#connected || !this.#complete) return null;
    return this.#assignedPending() + this.#unnamed.names.size;
  }

  get progress(): { done: number; total: number } {
    return { done: this.#source.size - this.#pending.size, total: this.#source.size };
  }

  /** All that the source has is here, or (of organizations that stay) was tried. */
  get seeded(): boolean {
    if (!this.#complete || this.#assignedPending() + this.#unnamed.names.size > 0) return false;
    for (const { attempts } of this.#pending.values()) if (attempts === 0) return false;
    return true;
  }

  /** Every difference seen is one that a first attempt may still remove. */
  get verified(): boolean {
    if (!this.#complete || this.#unnamed.names.size > 0) return false;
    for (const [path, { attempts }] of this.#pending)
      if (attempts > 1 && this.#isAssigned(path)) return false;
    return this.#options.view.unreadable.size === 0;
  }

  /** Everything up to the end of the fence `epoch` is here. */
  matched(epoch: number): boolean {
    const heard =
      this.#fencedEpoch === epoch && this.#finalGeneration !== null && this.#next >= this.#finalGeneration;
    const whole = this.#connected && this.#complete && this.#unnamed.names.size === 0;
    return heard && whole && this.#assignedPending() === 0;
  }

  problems(): Problem[] {
    const found = this.#problem === null ? [] : [this.#problem];
    if (this.#unnamed.names.size > 0)
      found.push({
        code: "ROOT_LOSSES",
        message: `the source names nothing of ${listed([...this.#unnamed.names])} here`.slice(0, 2_000),
      });
    found.push(...problemsOf(this.#pending.values()));
    const wholly = this.#differsAtTheEnd();
    return wholly === null ? found : [...found, wholly];
  }

  /** Everything was heard and copied, and the source's evidence is another one all the same. */
  #differsAtTheEnd(): Problem | null {
    const { view, context, source } = this.#options;
    if (this.#finalDigest === null || this.#finalDigest === view.digest) return null;
    if (this.#fencedEpoch === null || !this.matched(this.#fencedEpoch)) return null;
    const text = wholeDifferences(this.#source, view, context.inventory, { source, own: context.podId });
    return { code: "MISMATCH", message: `what these Pods have differs: ${text}`.slice(0, 2_000) };
  }

  /** Known to differ, or being mirrored. */
  isPending(path: string): boolean {
    return this.#pending.has(path);
  }

  /** The copy on this Pod is not what it was when it was written: it is mirrored anew. */
  repair(path: string, why: string): void {
    const { inventory } = this.#options.context;
    this.#consider(path);
    if (!this.#pending.has(path)) {
      inventory.damage(path, why);
      this.#consider(path);
    }
    const pending = this.#pending.get(path);
    const message = `the copy of ${path} is damaged: ${why}`.slice(0, 2_000);
    if (pending !== undefined) this.#says(path, pending, { code: "MISMATCH", message });
    this.#wakeWorkers();
  }

  until(condition: () => boolean, signal: AbortSignal): Promise<void> {
    return this.#conditions.until(condition, signal);
  }

  /** What `until` waits for may be true by now. */
  recheck(): void {
    this.#conditions.recheck();
    this.#options.onChange();
  }

  #isAssigned(path: string): boolean {
    const { view, context } = this.#options;
    const [theirs, own] = [this.#source.get(path), context.inventory.get(path)];
    return (theirs !== undefined && view.covers(theirs)) || (own !== undefined && view.covers(own));
  }

  #assignedPending(): number {
    let count = 0;
    for (const path of this.#pending.keys()) if (this.#isAssigned(path)) count += 1;
    return count;
  }

  // News ----------------------------------------------------------------------------------------------------

  async #listen(): Promise<void> {
    const { context, feed, migrationId } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const epoch = this.#fencedEpoch ?? 0;
        // What is still being heard of is not waited for.
        const waitMs = this.#connected ? POLL_MS : 0;
        const query = {
          migration: migrationId,
          incarnation: this.#incarnation,
          since: this.#next,
          epoch,
          waitMs,
        };
        const answer = await feed.changes(query, signal);
        this.#problem = null;
        if (answer !== null) {
          await this.#hear(answer);
          continue;
        }
        this.#connected = false;
      } catch (thrown) {
        if (signal.aborted) return;
        const error = toCleaveError(thrown, "PEER_UNREACHABLE");
        this.#connected = false;
        this.#problem = { code: error.code, message: error.message.slice(0, 2_000) };
      }
      this.recheck();
      await context.clock
        .sleep(this.urgent ? RETRY_MS.urgent : RETRY_MS.first, signal)
        .catch(() => undefined);
    }
  }

  async #hear(answer: ChangesAnswer): Promise<void> {
    const { inventory } = this.#options.context;
    if (answer.incarnation !== this.#incarnation) {
      this.#incarnation = answer.incarnation;
      this.#complete = false;
      this.#source.clear();
    }
    for (const entry of answer.entries) {
      if (!isRepositoryPath(entry.path)) continue;
      const heard = this.#ofInterest(entry);
      if (heard === null) continue;
      this.#source.set(entry.path, heard);
      this.#unnamed.named(entry.path);
      this.#consider(entry.path);
    }
    this.#next = answer.next;
    const caughtUp = answer.next >= answer.generation;
    if (caughtUp && !this.#complete) {
      // What is here and was never heard of is not there any more.
      await this.#notNamed([...inventory.paths()].filter((path) => !this.#source.has(path)));
      for (const path of [...this.#pending.keys()]) this.#consider(path);
    }
    for (const path of this.#unnamed.released()) await this.#goneAtSource(path);
    this.#complete ||= caughtUp;
    this.#connected = caughtUp;
    if (this.#complete && this.#options.watchOwn) await this.#lookAtOwn();
    this.#fencedEpoch = answer.fencedEpoch;
    this.#finalGeneration = answer.finalGeneration;
    this.#finalDigest = answer.finalDigest;
    this.#wakeWorkers();
    this.recheck();
  }

  async #lookAtOwn(): Promise<void> {
    const { inventory } = this.#options.context;
    for (;;) {
      const { entries, generation } = inventory.changesSince(this.#ownNext, OWN_ENTRIES);
      for (const { path } of entries)
        if (this.#source.has(path)) this.#consider(path);
        else if (inventory.get(path)?.deleted === false) await this.#goneAtSource(path);
      this.#ownNext = generation;
      if (entries.length < OWN_ENTRIES) return;
    }
  }

  /** One that went to somebody else is gone as far as this migration is concerned. */
  #ofInterest(entry: RepositoryEntry): RepositoryEntry | null {
    const { selective, view, watchOwn, context } = this.#options;
    const own = context.inventory.get(entry.path);
    // Nobody knows whose it is there: no reason to give up what is known here (rule 11).
    if (watchOwn && entry.owner === null && !entry.deleted && own !== undefined && view.covers(own))
      return entry;
    if (!selective || (view.covers(entry) && !entry.deleted)) return entry;
    return this.#source.has(entry.path) ? { ...entry, deleted: true } : null;
  }

  async #notNamed(paths: readonly string[]): Promise<void> {
    const { inventory } = this.#options.context;
    const gone: string[] = [];
    for (const path of paths) if (await this.#isCopy(path)) gone.push(path);
    let known = gone.length;
    for (const path of this.#source.keys()) if (inventory.get(path)?.deleted === false) known += 1;
    for (const path of this.#unnamed.judge(gone, known)) await this.#goneAtSource(path);
  }

  /** Whether the repository here is what this replica has in hand. */
  async #isCopy(path: string): Promise<boolean> {
    const { mirror, context, watchOwn, view } = this.#options;
    const own = context.inventory.get(path);
    if (watchOwn && (own === undefined || !view.covers(own))) return false;
    return mirror.isOwn(path);
  }

  async #goneAtSource(path: string): Promise<void> {
    if (this.#unnamed.names.has(path) || !(await this.#isCopy(path))) return;
    const own = this.#options.context.inventory.get(path);
    if (own !== undefined) this.#source.set(path, { ...own, deleted: true });
    this.#consider(path);
  }

  #consider(path: string): void {
    const { context, watchOwn, view } = this.#options;
    const wanted = this.#source.get(path);
    if (wanted === undefined) return;
    const own = context.inventory.get(path);
    const isOthers = watchOwn && own !== undefined && own.owner !== null && !view.covers(own);
    // The owner is not read from the repository but told.
    if (wanted.owner !== null && !isOthers) context.inventory.setOwner(path, wanted.owner);
    const pending = this.#pending.get(path);
    if (!sameRepository(context.inventory.get(path), wanted)) {
      if (pending) newsOf(pending, context.clock.monotonic());
      else this.#pending.set(path, notTried());
    } else if (pending && !pending.running) this.#pending.delete(path);
  }

  // Mirroring -----------------------------------------------------------------------------------------------

  #wakeWorkers(): void {
    for (const pause of this.#pauses) pause.wake();
  }

  /** The next one to do, or in how many milliseconds there will be one. */
  #pick(): string | number {
    const now = this.#options.context.clock.monotonic();
    let other: string | null = null;
    let soonest: number = RETRY_MS.last;
    for (const [path, pending] of this.#pending) {
      if (pending.running) continue;
      if (pending.notBefore > now) soonest = Math.min(soonest, pending.notBefore - now);
      else if (this.#isAssigned(path)) return path;
      else other ??= path;
    }
    return other ?? soonest;
  }

  async #mirrorForever(pause: Pause): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      pause.look();
      const next = this.#pick();
      if (typeof next === "string") await this.#mirror(next);
      else await pause.wait(next);
    }
  }

  async #mirror(path: string): Promise<void> {
    const { context, mirror } = this.#options;
    const { signal } = this.#stopping;
    const pending = this.#pending.get(path);
    const wanted = this.#source.get(path);
    if (pending === undefined || wanted === undefined) return;
    pending.running = true;
    let problem: Problem | null = null;
    let failed = false;
    try {
      problem = unusable(wanted);
      if (wanted.deleted || wanted.reason !== "unreadable") {
        const own = context.inventory.get(path);
        await mirror.sync(wanted, own, signal);
        // Made anew, as a whole.
        if (own?.reason === "unreadable") context.inventory.mended(path);
        tally("git", "repositories", 1);
      }
      await context.inventory.refresh(path, { owner: wanted.owner, urgent: true, removed: wanted.deleted });
    } catch (thrown) {
      if (signal.aborted) return;
      problem = failureOf(path, thrown);
      failed = true;
    } finally {
      pending.running = false;
    }
    const newest = this.#source.get(path);
    pending.attempts += 1;
    pending.failures = failed ? pending.failures + 1 : 0;
    if (problem === null && sameRepository(context.inventory.get(path), newest)) {
      this.#pending.delete(path);
      if (newest?.deleted) this.#source.delete(path);
    } else {
      // The source was read before or after a change of it: its next word comes soon, and ends the pause.
      const isNews = newest !== wanted;
      const now = context.clock.monotonic();
      pending.notBefore = now + pauseMs(pending, this.urgent, problem?.code);
      if (isNews) newsOf(pending, now);
      if (pending.attempts >= DESCRIBED_AFTER && !isNews) {
        const said = problem;
        this.#describing.look(path, (text) => {
          if (this.#pending.get(path) !== pending) return;
          const message = said === null ? `${path} differs: ${text}` : `${said.message}. It differs: ${text}`;
          this.#says(path, pending, { code: said?.code ?? "MISMATCH", message: message.slice(0, 2_000) });
        });
      }
      // What is said of it stands until something else is known.
      problem ??= isNews ? null : pending.problem;
    }
    this.#says(path, pending, problem);
  }

  #says(path: string, pending: Pending, problem: Problem | null): void {
    const { log } = this.#options.context;
    if (problem !== null && problem.message !== pending.problem?.message)
      log.warn({ path, code: problem.code }, problem.message);
    pending.problem = problem;
    this.recheck();
  }
}
