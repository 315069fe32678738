/**
 * A scrub, as storage systems call it: every item of a copy is read back from the disk, again and again and at a bounded
 * rate, and compared with what the copier believes to have written. What the copier changes is read back once more, and at
 * the fence a random sample with it: evidence is what was read, not what is remembered.
 */
import type { ScrubStatus } from "../../../../protocol/evidence.ts";
import { Pause } from "../../../../protocol/pause.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import { RateLimit } from "../rate-limit.ts";
import { inParallel, Sample, shuffled } from "./sample.ts";
import type { Limits, Scrubbed, ScrubMemory } from "./scrubbed.ts";

/** Drawn before the fence, since drawing costs a look at every name. */
const SAMPLE = 256;
/** In the window: after the first so many no look, and after so many no reading, of the sample begins later than this. */
const SAMPLE_MS = 40;
const SURE_LOOKS = 32;
const SURE_READINGS = 4;
/** Evidence waits for a sample no longer than this, also where a disk hangs; what it finds later takes evidence back. */
const SAMPLE_WAIT_MS = 250;
/** Items of the sample that are read and not only looked at. */
const SAMPLE_READ = 64;
const LOOKS_AT_ONCE = 8;
/** While the fence is up another sample is read so long after the last one. */
const SAMPLE_AGAIN_MS = 500;
/** A larger one is looked at in the sample, and not read: one reading of it could outlast the window. */
const SAMPLE_BYTES = 4 * 1024 * 1024;
const RETRY_MS = 1_000;
const LOOKS_PER_SECOND = 20_000;
const NOTHING = {};

export interface ScrubOptions extends Limits {
  readonly scrubbed: Scrubbed;
  readonly memory: ScrubMemory;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onChange: () => void;
}

interface Confirmed {
  readonly epoch: number;
  sampledAt: number | null;
  sampling: boolean;
}

export class Scrub {
  readonly #options: ScrubOptions;
  readonly #ended = new AbortController();
  readonly #bytes: RateLimit;
  readonly #items: RateLimit;
  readonly #looks: RateLimit;
  readonly #borneOut: WeakSet<object>;
  readonly #unread = { assigned: new Set<string>(), others: new Set<string>() };
  /** Read before and looking other than then. */
  readonly #again = new Set<string>();
  readonly #reading = new Set<string>();
  /** Found and not read back since, with what was found. */
  readonly #open = new Map<string, string>();
  readonly #pauses: readonly Pause[];
  #sample: readonly string[] = [];
  #passes = 0;
  #passEndedAt: number | null = null;
  #pass: Iterator<string> | null = null;
  #nextLookAt = 0;
  #looking = false;
  #finishing = false;
  #found = 0;
  #last: string | null = null;
  #work: Promise<unknown> | null = null;
  #confirmed: Confirmed | null = null;

  constructor(options: ScrubOptions) {
    this.#options = options;
    this.#borneOut = options.memory.borneOut;
    const { clock, bytesPerSecond, itemsPerSecond, concurrency } = options;
    this.#bytes = new RateLimit(clock, bytesPerSecond);
    this.#items = new RateLimit(clock, itemsPerSecond);
    this.#looks = new RateLimit(clock, LOOKS_PER_SECOND);
    this.#pauses = Array.from({ length: concurrency }, () => new Pause(clock));
  }

  /** Once; from when there is a whole copy. */
  start(): void {
    this.#work ??= Promise.all(this.#pauses.map((pause) => this.#scrubForever(pause)));
  }

  async stop(): Promise<void> {
    this.#ended.abort(new Error("no longer scrubbed"));
    this.wake();
    await this.#work;
  }

  /** Something may have been copied. */
  wake(): void {
    for (const pause of this.#pauses) pause.wake();
  }

  /** Everything was read back at least once, and no damage is open. */
  get verified(): boolean {
    this.#forgetGone();
    return this.#passes > 0 && this.#open.size === 0;
  }

  status(): ScrubStatus {
    this.#absorb();
    const items = this.#options.scrubbed.size;
    const unread = this.#unread.assigned.size + this.#unread.others.size + this.#reading.size;
    const passAgeMs =
      this.#passEndedAt === null ? null : Math.round(this.#options.clock.monotonic() - this.#passEndedAt);
    return {
      items,
      unread: Math.min(items, unread),
      passes: this.#passes,
      passAgeMs,
      damaged: this.#found,
      last: this.#last,
    };
  }

  /**
   * At the fence of that epoch: everything in scope that was changed since it was read has been read back, and so has a
   * sample; no damage is open. Asked again after every change; a first call begins the work.
   */
  confirms(epoch: number): boolean {
    if (this.#confirmed?.epoch !== epoch) {
      this.#confirmed = { epoch, sampledAt: null, sampling: false };
      for (const name of this.#again) this.#doubt(name);
      this.#again.clear();
      this.start();
    }
    const { sampledAt, sampling } = this.#confirmed;
    // As long as the fence is up, since it may be damaged meanwhile; the word that there is holds until then.
    if (
      !sampling &&
      (sampledAt ?? Number.NEGATIVE_INFINITY) + SAMPLE_AGAIN_MS < this.#options.clock.monotonic()
    )
      this.#sampleInBackground(this.#confirmed);
    this.#absorb();
    if (this.#unread.assigned.size > 0) this.wake();
    if (sampledAt === null || this.#unread.assigned.size > 0) return false;
    this.#forgetGone();
    const { scrubbed } = this.#options;
    for (const name of this.#open.keys()) if (scrubbed.isAssigned(name)) return false;
    // Of what is read once more and was borne out before, the old word holds until there is a new one.
    for (const name of this.#reading)
      if (scrubbed.isAssigned(name) && !this.#borneOut.has(scrubbed.belief(name) ?? NOTHING)) return false;
    return true;
  }

  /** No fence is up any more: what is read is read at the configured rate again. */
  relax(): void {
    this.#confirmed = null;
  }

  /** What was found and is not mended yet. */
  *open(): Generator<readonly [name: string, why: string]> {
    yield* this.#open;
  }

  // Reading -----------------------------------------------------------------------------------------------------

  async #scrubForever(pause: Pause): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      pause.look();
      const next = this.#next();
      try {
        if (typeof next === "string") await this.#read(next);
        else await pause.wait(next);
      } catch (error) {
        if (signal.aborted) return;
        this.#options.log.warn({ err: error }, "reading a copy back failed; it is tried again");
        await this.#options.clock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  /** What to read next, or for how many milliseconds there is nothing. */
  #next(): string | number {
    this.#absorb();
    for (const names of [this.#unread.assigned, this.#again, this.#unread.others])
      for (const name of names) {
        if (this.#reading.has(name)) continue;
        names.delete(name);
        return name;
      }
    const now = this.#options.clock.monotonic();
    if (this.#passes === 0) {
      if (this.#reading.size === 0) this.#finish();
      return RETRY_MS;
    }
    for (let next = this.#pass?.next(); next !== undefined; next = this.#pass?.next()) {
      if (next.done === true) {
        this.#pass = null;
        this.#finish();
      } else if (!this.#reading.has(next.value)) return next.value;
    }
    const passIn = (this.#passEndedAt ?? now) + this.#options.pauseMs - now;
    if (passIn <= 0 && !this.#finishing) {
      this.#pass = this.#options.scrubbed.names()[Symbol.iterator]();
      return 0;
    }
    if (now >= this.#nextLookAt && !this.#looking) void this.#lookAtAll();
    return Math.max(1, Math.min(passIn, this.#nextLookAt - now, RETRY_MS));
  }

  #absorb(): void {
    const { scrubbed } = this.#options;
    for (const name of scrubbed.changed()) {
      const believed = scrubbed.belief(name);
      if (believed !== null && !this.#borneOut.has(believed)) this.#readSoon(name);
    }
  }

  async #read(name: string): Promise<void> {
    const { scrubbed, onChange } = this.#options;
    const { signal } = this.#ended;
    if (scrubbed.belief(name) === null) return;
    this.#reading.add(name);
    try {
      const isUrgent = () => this.#confirmed !== null && scrubbed.isAssigned(name);
      if (!isUrgent()) await this.#items.take(1, signal);
      const take = async (bytes: number) => {
        if (!isUrgent()) await this.#bytes.take(bytes, signal);
      };
      const { why, belief } = await scrubbed.read(name, signal, take);
      if (belief === null) return;
      if (why !== null) this.#damage(name, why, belief);
      // Copied anew meanwhile: that is read when it is here.
      else if (scrubbed.belief(name) === belief) {
        this.#borneOut.add(belief);
        if (this.#open.delete(name)) onChange();
      }
    } catch (error) {
      // Not read is not sound.
      this.#readSoon(name);
      throw error;
    } finally {
      this.#reading.delete(name);
      if (this.#confirmed !== null) onChange();
      // The first pass is over with its last item.
      if (this.#passes === 0 && this.#reading.size === 0) this.wake();
    }
  }

  #damage(name: string, why: string, belief: object): void {
    const { scrubbed, log } = this.#options;
    this.#borneOut.delete(belief);
    this.#found += 1;
    this.#last = `${name}: ${why}`.slice(0, 500);
    this.#open.set(name, why);
    log.warn({ item: name, why }, "a copy is not what was written; it is copied again");
    scrubbed.damaged(name, why);
  }

  /** What is not to be here needs no mending. */
  #forgetGone(): void {
    for (const name of this.#open.keys()) if (this.#options.scrubbed.isGone(name)) this.#open.delete(name);
  }

  /** The word of the last reading holds no more. */
  #doubt(name: string): void {
    const believed = this.#options.scrubbed.belief(name);
    if (believed === null) return;
    this.#borneOut.delete(believed);
    this.#readSoon(name);
  }

  #readSoon(name: string): void {
    const { assigned, others } = this.#unread;
    (this.#options.scrubbed.isAssigned(name) ? assigned : others).add(name);
  }

  #finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    const { scrubbed, log, clock, onChange } = this.#options;
    const finish = async () => {
      await scrubbed.passed?.(this.#ended.signal);
      await this.#lookAtAll();
      this.#passes += 1;
      this.#passEndedAt = clock.monotonic();
    };
    void finish()
      .catch((error: unknown) => {
        if (!this.#ended.signal.aborted) log.warn({ err: error }, "a pass over a copy failed at its end");
      })
      .finally(() => {
        this.#finishing = false;
        this.wake();
        onChange();
      });
  }

  // Looking -----------------------------------------------------------------------------------------------------

  /** What was changed by others since it was read has another time: it is read next. Draws the sample as it goes. */
  async #lookAtAll(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const { scrubbed, clock, lookMs } = this.#options;
    const { signal } = this.#ended;
    const drawn = new Sample(SAMPLE);
    try {
      for (const name of scrubbed.names()) {
        signal.throwIfAborted();
        if (scrubbed.isAssigned(name)) drawn.offer(name);
        await this.#looks.take(1, signal);
        await this.#look(name, false);
      }
      this.#sample = drawn.names;
    } catch (error) {
      if (!signal.aborted) this.#options.log.warn({ err: error }, "a look at a copy failed");
    } finally {
      this.#looking = false;
      this.#nextLookAt = clock.monotonic() + lookMs;
      this.wake();
    }
  }

  /** `counts`: what looks other than it was is no evidence until it was read; else the old word holds until then. */
  async #look(name: string, counts: boolean): Promise<void> {
    const { scrubbed } = this.#options;
    const believed = scrubbed.belief(name);
    if (believed === null) return;
    if (this.#borneOut.has(believed) && (await scrubbed.looksSame(name).catch(() => false))) return;
    if (scrubbed.belief(name) !== believed) return;
    if (counts || !this.#borneOut.has(believed)) this.#doubt(name);
    else this.#again.add(name);
  }

  #sampleInBackground(confirmed: Confirmed): void {
    const { clock, log, onChange } = this.#options;
    confirmed.sampling = true;
    const startedAt = clock.monotonic();
    const noted = () => {
      confirmed.sampledAt = startedAt;
      onChange();
    };
    const late = clock.after(SAMPLE_WAIT_MS, noted);
    void this.#readSample(confirmed.sampledAt === null)
      .then(noted)
      .catch((error: unknown) => {
        // Begun anew when it is asked for the next time.
        if (!this.#ended.signal.aborted) log.warn({ err: error }, "a sample cannot be read back");
      })
      .finally(() => {
        late();
        confirmed.sampling = false;
        onChange();
      });
  }

  async #readSample(isFirst: boolean): Promise<void> {
    const { scrubbed, clock, concurrency } = this.#options;
    const { signal } = this.#ended;
    const until = clock.monotonic() + SAMPLE_MS;
    const mayBegin = (sure: number) => (begun: number) =>
      !signal.aborted && (begun < sure || clock.monotonic() < until);
    // Another order for another fence.
    const sample = shuffled(this.#sample);
    await inParallel(LOOKS_AT_ONCE, sample, mayBegin(SURE_LOOKS), (name) => this.#look(name, isFirst));
    const small = sample.filter((name) => scrubbed.bytes(name) <= SAMPLE_BYTES).slice(0, SAMPLE_READ);
    await inParallel(concurrency, small, mayBegin(SURE_READINGS), async (name) => {
      if (!this.#reading.has(name)) await this.#read(name);
    });
  }
}
