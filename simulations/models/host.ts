/** A machine's clock and speed, and one run of one process on it. A dead process's callbacks never run again. */
import type { EventType } from "../../protocol/events.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { World } from "../world/world.ts";

/** Where virtual time begins in the processes' calendars. */
export const EPOCH_MS = 1_700_000_000_000;

/** Survives the crash of what runs on it. */
export class Host {
  readonly id: string;
  /** Added to the calendar, not to durations. */
  skewMs = 0;
  /** 1 is true; durations measured here are longer or shorter by this. The calendar is kept by a time service. */
  rate = 1;
  pausedUntil = 0;
  /** Its subscription to the log says nothing until then. */
  nothingDeliveredUntil = 0;
  /** No report reaches it until then. */
  nothingHeardUntil = 0;
  /** Processes that were started here. */
  lives = 0;
  #slowMs = 0;
  /** The event that an older version of the program, which runs here for a while, does not know. */
  olderWithout: EventType | null = null;
  /** Migrations in which it met that event: it must not act on them (rule 13). */
  readonly standsStill = new Set<string>();
  /** What it said in its reports that it does not know. */
  saidUnknown: string | null = null;

  constructor(id: string) {
    this.id = id;
  }

  /** Whoever does not do all that it should is slow by a trace, so that no checker counts on it. */
  get slowMs(): number {
    return this.#slowMs + (this.olderWithout === null ? 0 : 0.001);
  }

  set slowMs(ms: number) {
    this.#slowMs = ms;
  }
}

export class Run {
  readonly world: World;
  readonly host: Host;
  /** Of the version that was started. */
  readonly without: EventType | null;
  /** Which start of its host's process this is: the first is 1. */
  readonly life: number;
  alive = true;

  constructor(world: World, host: Host) {
    this.world = world;
    this.host = host;
    host.lives += 1;
    this.life = host.lives;
    this.without = host.olderWithout;
  }

  /** Memory and everything in flight is gone. */
  kill(): void {
    this.alive = false;
  }

  /** True while its callbacks are run when they are due. */
  get responsive(): boolean {
    return this.alive && this.host.pausedUntil <= this.world.now;
  }

  /** `run` in this process within this very event, or as soon as it is neither paused nor slow. */
  now(label: string, run: () => void): void {
    if (this.responsive && this.host.slowMs === 0) run();
    else this.after(0, label, run);
  }

  /** `run` in this process after `ms` of true time; later while it is paused or slow, never after its death. */
  after(ms: number, label: string, run: () => void): () => void {
    let event = this.world.after(ms + this.host.slowMs, `${this.host.id} ${label}`, () => fire());
    const fire = (): void => {
      if (!this.alive) return;
      if (this.host.pausedUntil > this.world.now)
        event = this.world.at(this.host.pausedUntil, `${this.host.id} ${label}`, fire);
      else run();
    };
    return () => this.world.cancel(event);
  }

  readonly clock: Clock = {
    now: () => Math.floor(EPOCH_MS + this.world.now + this.host.skewMs),
    monotonic: () => this.world.now * this.host.rate,
    sleep: (ms, signal) => this.#sleep(ms, signal),
    after: (ms, run) => this.after(Math.max(0, ms) / this.host.rate, "timer", run),
  };

  #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const cancel = this.after(Math.max(0, ms) / this.host.rate, "timer", () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      });
      const onAbort = () => {
        cancel();
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }
}
