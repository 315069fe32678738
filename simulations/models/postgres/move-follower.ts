/**
 * The change stream of a move on its target, kept running: as agent/stores/postgres/replication/follow.ts applies it; and that
 * of a way back on the source.
 */
import { CleaveError, type ErrorCode, toCleaveError } from "../../../protocol/errors.ts";
import { Pause } from "../../../protocol/pause.ts";
import { copied } from "./move-copy.ts";
import type { StreamSession } from "./move-session.ts";
import type { Change, SnapshotId, WalRecord } from "./state.ts";

const RETRY_MS = 200;
/** What does not go away by itself within moments. */
const LASTING_RETRY_MS = 5_000;
const LASTING: ReadonlySet<ErrorCode> = new Set([
  "MEMBERSHIP_CHANGED",
  "SCHEMA_DIFFERS",
  "CHANGE_NOT_APPLICABLE",
  "COMMAND_NOT_POSSIBLE",
]);

export interface Marker {
  readonly token: string;
  readonly verified: SnapshotId | null;
}

export class MoveFollower {
  readonly #session: StreamSession;
  readonly #onChange: () => void;
  readonly #stopping = new AbortController();
  /** One of each that waits for news: a fence and a check may do so at the same time. */
  readonly #waiting = new Set<Pause>();
  readonly #markers = new Map<string, Marker>();
  #applied: number | null = null;
  problem: CleaveError | null = null;

  constructor(session: StreamSession, onChange: () => void) {
    this.#session = session;
    this.#onChange = onChange;
  }

  start(): void {
    void this.#forever();
  }

  stop(): void {
    this.#stopping.abort(new CleaveError("COMMAND_NOT_POSSIBLE", "the change stream was stopped"));
    this.#notice();
  }

  /** Everything of the source up to there is durable here; null until that is known. */
  get position(): number | null {
    return this.#applied;
  }

  /** The marker of a fence, once it came by this stream and everything before it is durable here. */
  marker(migrationId: string, epoch: number): Marker | null {
    return this.#markers.get(`${migrationId}/${epoch}`) ?? null;
  }

  /** Until something was applied, or so long. */
  async news(ms: number, signal: AbortSignal): Promise<void> {
    const { run } = this.#session.parts;
    const pause = new Pause(run.clock);
    const wake = () => pause.wake();
    this.#waiting.add(pause);
    signal.addEventListener("abort", wake, { once: true });
    await pause.wait(ms);
    signal.removeEventListener("abort", wake);
    this.#waiting.delete(pause);
    signal.throwIfAborted();
  }

  async reached(position: number, signal: AbortSignal): Promise<void> {
    while (this.#applied === null || this.#applied < position) {
      this.#stopping.signal.throwIfAborted();
      await this.news(500, signal);
    }
  }

  #notice(): void {
    for (const pause of this.#waiting) pause.wake();
    this.#onChange();
  }

  async #forever(): Promise<void> {
    const { signal } = this.#stopping;
    const { clock } = this.#session.parts.run;
    while (!signal.aborted) {
      try {
        await this.#stream(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.problem = toCleaveError(error);
        this.#notice();
        const pauseMs = LASTING.has(this.problem.code) && !this.#session.isHeld ? LASTING_RETRY_MS : RETRY_MS;
        await clock.sleep(pauseMs, signal).catch(() => undefined);
      }
    }
  }

  /** From where this Pod is, until it cannot go on. */
  async #stream(signal: AbortSignal): Promise<void> {
    const { own, source, slot, parts } = this.#session;
    own.requirePrimary("following");
    const origin = own.state.origins.get(slot) ?? (await this.#begin(signal));
    const confirmed = await this.#session.ask(signal, ({ logical }) => logical.slots.get(slot)?.confirmed);
    // A server streams nothing that was confirmed to it.
    let from = Math.max(origin, confirmed ?? 0);
    const pause = new Pause(parts.run.clock);
    const wake = () => pause.wake();
    signal.addEventListener("abort", wake);
    const stopListening = source.onChange(() => {
      if (parts.run.alive) wake();
    });
    try {
      for (;;) {
        pause.look();
        const records = await this.#session.ask(signal, ({ logical }) => {
          const at = logical.slots.get(slot);
          if (at === undefined || at.lost)
            throw new CleaveError("POSTGRES_SETTING", `the replication slot ${slot} is gone`);
          return logical.decode(source, from, parts.run.world.now);
        });
        own.requirePrimary("following");
        while (own.replayStallsUntil > parts.run.world.now || this.#session.isHeld)
          await parts.run.clock.sleep(50, signal);
        if (records.length > 0) from = await this.#applyAll(records, signal);
        this.#confirm(from);
        if (source.position > from) continue;
        await pause.wait(RETRY_MS);
        signal.throwIfAborted();
      }
    } finally {
      stopListening();
      signal.removeEventListener("abort", wake);
    }
  }

  /** Of a way back, which has nothing to copy: the copy here is what the slot's beginning continues. */
  async #begin(signal: AbortSignal): Promise<number> {
    const { slot, direction, lent } = this.#session;
    if (direction === "forth") throw new CleaveError("INTERNAL", "there is no origin here");
    const at = await this.#session.ask(signal, ({ logical }) => logical.slots.get(slot));
    if (at === undefined || at.lost)
      throw new CleaveError("POSTGRES_SETTING", `the replication slot ${slot} is gone`);
    const { consistentAt } = at;
    await lent.administer([{ type: "origin", name: slot, position: consistentAt }], signal);
    return consistentAt;
  }

  /** Only what is durable is confirmed: the source forgets it. */
  #confirm(position: number): void {
    const slot = this.#session.source.logical.slots.get(this.#session.slot);
    if (slot !== undefined) slot.confirmed = Math.max(slot.confirmed, position);
    if (this.#applied === position && this.problem === null) return;
    this.#applied = position;
    this.problem = null;
    this.#notice();
  }

  /** In one transaction; when one of them cannot be applied, those before it first. @returns where they end */
  async #applyAll(records: readonly WalRecord[], signal: AbortSignal): Promise<number> {
    const bad = records.findIndex((record) => this.#refusal(record) !== null);
    const good = bad < 0 ? records : records.slice(0, bad);
    const end = good.at(-1)?.end;
    if (end !== undefined) {
      const changes = good.flatMap((record) => this.#changesOf(record));
      const origin: Change = { type: "origin", name: this.#session.slot, position: end };
      if (changes.length > 0) await this.#session.write(changes, [origin], signal);
      for (const record of good) this.#hear(record);
    }
    const refusal = bad < 0 ? null : this.#refusal(records[bad] as WalRecord);
    if (refusal === null) return end as number;
    if (end !== undefined) this.#confirm(end);
    throw refusal;
  }

  /** Of a transaction: what the organizations' rows become here. */
  #changesOf(record: WalRecord): Change[] {
    return record.changes.flatMap((change): Change[] => {
      if (change.type === "row")
        return this.#isMeant(change) && this.#session.isTheirs(change.organization) ? [copied(change)] : [];
      if (change.type !== "remove" || this.#session.direction === "forth") return [];
      const rows = change.rows.filter(({ organization }) => this.#session.isTheirs(organization));
      return rows.length === 0 ? [] : [{ type: "remove", rows }];
    });
  }

  /** What came from here does not flow back. */
  #isMeant(change: Change & { readonly type: "row" }): boolean {
    return this.#session.direction === "forth" || change.copied !== true;
  }

  /** What is not guessed at. */
  #refusal(record: WalRecord): CleaveError | null {
    const { own } = this.#session;
    for (const change of record.changes) {
      if (change.type === "truncate")
        return new CleaveError("CHANGE_NOT_APPLICABLE", "TRUNCATE: whose rows were removed is not known");
      if (change.type === "alter") return new CleaveError("SCHEMA_DIFFERS", "a table was altered");
      if (change.type !== "came" && !(change.type === "row" && this.#isMeant(change))) continue;
      const { organization, write } = change;
      if (!this.#session.isTheirs(organization)) continue;
      if (change.type === "came")
        return new CleaveError("MEMBERSHIP_CHANGED", `the row ${write} came to ${organization}`);
      if (own.state.rows.get(organization)?.includes(write))
        return new CleaveError(
          "CHANGE_NOT_APPLICABLE",
          `the row ${write} of ${organization} is here already`,
        );
    }
    return null;
  }

  #hear(record: WalRecord): void {
    for (const change of record.changes)
      if (change.type === "marker")
        this.#markers.set(`${change.migrationId}/${change.epoch}`, {
          token: change.token,
          verified: change.verified ?? null,
        });
  }
}
