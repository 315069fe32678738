/** A target's copy of a source's objects: asks for changes, applies them, and knows how far it is. */
import { Readable } from "node:stream";
import { CleaveError, invariant, toCleaveError } from "../../../../protocol/errors.ts";
import type { Problem } from "../../../../protocol/evidence.ts";
import type { Epoch } from "../../../../protocol/ids.ts";
import { tally } from "../../../../protocol/telemetry/tally.ts";
import { Unnamed } from "../../common/root/unnamed.ts";
import type { ObjectAccess } from "../backend/backend.ts";
import { lossesProblem } from "../inventory/absence.ts";
import { keyFault, quoteKey } from "../inventory/keys.ts";
import { Failures } from "./failures.ts";
import type { ChangesAnswer } from "./peer-protocol.ts";
import type { ReplicaOptions } from "./replica-options.ts";

const WAIT_MS = 2_000;
/** Without an answer for this long nobody knows how far behind this Pod is. */
const UNKNOWN_AFTER_MS = 3 * WAIT_MS;
const MAX_PENDING = 20_000;
const RETRY_MS = { first: 50, last: 1_000 } as const;

type Change = ChangesAnswer["entries"][number];

export class Replica {
  readonly #options: ReplicaOptions;
  readonly #ended = new AbortController();
  /** The newest known change per key that is not applied yet. */
  readonly #pending = new Map<string, Change>();
  readonly #ready = new Set<string>();
  readonly #active = new Map<string, Promise<void>>();
  readonly #failures = new Failures();
  readonly #invalid = new Set<string>();
  /** Copies that the source did not name, too many to be deleted for that. */
  readonly #unnamed: Unnamed;
  #room: (() => void) | null = null;
  #incarnation = "";
  #since = 0;
  #remaining: number | null = null;
  /** While everything is looked through: the keys that the source named; afterwards null. */
  #seen: Set<string> | null = new Set();
  /** Everything was looked through while the source held back what came after a fence. */
  #partial = false;
  /** What the source has of the scope, where the own inventory is watched. */
  readonly #theirs = new Map<string, Change>();
  /** Of the own inventory: looked at up to here. */
  #own = { incarnation: "", generation: 0 };
  #final: { epoch: Epoch; generation: number; digest: string } | null = null;
  #source: { objects: number; bytes: number } | null = null;
  #answeredAt: number | null = null;
  #connection: Problem | null = null;
  #baseCopied = false;
  #loop: Promise<void> | null = null;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    this.#unnamed = new Unnamed(options);
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#ended.abort(new Error("no longer following"));
    this.#room?.();
    await this.#loop;
    await Promise.all(this.#active.values());
  }

  /** Everything that the source held when copying began is here. */
  get baseCopied(): boolean {
    return this.#baseCopied;
  }
  get source(): { readonly objects: number; readonly bytes: number } | null {
    return this.#source;
  }
  get final(): { readonly epoch: Epoch; readonly generation: number; readonly digest: string } | null {
    return this.#final;
  }
  /** Objects that are here as the source has them, about: for people. */
  get done(): number {
    return this.#options.selective
      ? Math.max(0, (this.#source?.objects ?? 0) - this.#pending.size - (this.#remaining ?? 0))
      : this.#options.inventory.size;
  }
  isPending(key: string): boolean {
    return this.#pending.has(key);
  }

  /** Objects known to differ and not applied yet; null when that is not known. */
  lag(): number | null {
    const { clock } = this.#options;
    if (this.#remaining === null || this.#seen !== null || this.#answeredAt === null) return null;
    if (this.#connection !== null || clock.monotonic() - this.#answeredAt > UNKNOWN_AFTER_MS) return null;
    return this.#pending.size + this.#remaining + this.#invalid.size + this.#unnamed.names.size;
  }

  /** Everything in scope up to the source's final generation of that epoch is applied (rule 5). */
  caughtUpWith(epoch: Epoch): boolean {
    if (this.#final?.epoch !== epoch || this.#seen !== null || this.#remaining !== 0) return false;
    if (this.#since < this.#final.generation || this.#invalid.size + this.#unnamed.names.size > 0)
      return false;
    const { inScope, isShared } = this.#options;
    for (const key of this.#pending.keys()) if (inScope(key) || isShared(key)) return false;
    return true;
  }

  problems(): Problem[] {
    const invalid = [...this.#invalid].slice(0, 10).map(
      (key): Problem => ({
        code: "OBJECT_KEY_INVALID",
        message: `the source has ${quoteKey(key)}, which cannot be copied: ${keyFault(key) ?? ""}`,
      }),
    );
    const connection = this.#connection ? [this.#connection] : [];
    const unnamed = lossesProblem("the source", [...this.#unnamed.names]) ?? [];
    return [...connection, ...[unnamed].flat(), ...invalid, ...this.#failures.problems()];
  }

  /** Looks through everything again; what is equal is not copied again. */
  resync(): void {
    this.#incarnation = "";
    this.#seen = new Set();
    this.#since = 0;
  }

  /** The copy on this Pod is not what it was when it was written: take it anew. */
  repair(key: string, why: string): void {
    const { inventory, inScope, isShared, selective } = this.#options;
    const entry = inventory.get(key);
    if (entry === undefined || this.#pending.has(key)) return;
    invariant(!selective || inScope(key) || isShared(key), `${quoteKey(key)} is no copy of this migration`);
    this.#options.log.warn({ key }, `the copy of an object is ${why}; it is copied again`);
    this.#options.root.doubt();
    this.#failures.say(key, { code: "MISMATCH", message: `the copy of ${quoteKey(key)} is ${why}` });
    this.#options.inventory.delete(key);
    const sha256 = entry.sha256 as Change["sha256"];
    this.#enqueue({ key, bytes: entry.bytes, sha256, deleted: false });
    this.#options.onChange();
  }

  async #run(): Promise<void> {
    const { clock, client, migrationId, log, onChange } = this.#options;
    const { signal } = this.#ended;
    let failures = 0;
    while (!signal.aborted) {
      try {
        if (this.#pending.size > MAX_PENDING) await this.#untilRoom();
        const question = {
          migrationId,
          incarnation: this.#incarnation,
          since: this.#since,
          epoch: this.#final?.epoch ?? 0,
          waitMs: this.#seen === null && this.#remaining === 0 ? WAIT_MS : 0,
        };
        const answer = await client.changes(question, signal);
        // Meanwhile somebody may have asked for everything anew.
        if (question.incarnation !== this.#incarnation) continue;
        this.#answeredAt = clock.monotonic();
        this.#connection = null;
        failures = 0;
        this.#take(answer);
        this.#lookAtOwn();
        this.#deleteAll(this.#unnamed.released());
        onChange();
      } catch (error) {
        if (signal.aborted) return;
        const { code, message } = toCleaveError(error, "PEER_UNREACHABLE");
        if (this.#connection === null) log.warn({ err: error }, "the source's changes cannot be read");
        this.#connection = { code, message: message.slice(0, 2_000) };
        onChange();
        const retryMs = Math.min(RETRY_MS.first * 2 ** failures++, RETRY_MS.last);
        await clock.sleep(retryMs, signal).catch(() => undefined);
      }
    }
  }

  #take(answer: ChangesAnswer): void {
    if (answer.incarnation !== this.#incarnation) {
      this.#incarnation = answer.incarnation;
      this.#seen = new Set();
      this.#theirs.clear();
      this.#invalid.clear();
    }
    for (const change of answer.entries) {
      if (!this.#isWanted(change)) continue;
      this.#seen?.add(change.key);
      this.#unnamed.named(change.key);
      if (this.#options.tracked !== null && this.#options.inScope(change.key)) {
        if (change.deleted) this.#theirs.delete(change.key);
        else this.#theirs.set(change.key, change);
      }
      if (keyFault(change.key) !== null) {
        if (change.deleted) this.#invalid.delete(change.key);
        else this.#invalid.add(change.key);
      } else if (this.#pending.has(change.key) || this.#active.has(change.key) || !this.#isApplied(change)) {
        this.#enqueue(change);
      }
    }
    this.#since = answer.next;
    this.#remaining = answer.remaining;
    this.#source = { objects: answer.objects, bytes: answer.bytes };
    this.#final =
      answer.fencedEpoch === null || answer.finalGeneration === null
        ? null
        : {
            epoch: answer.fencedEpoch,
            generation: answer.finalGeneration,
            digest: answer.finalDigest ?? "",
          };
    if (this.#final !== null) this.#fillWorkers();
    if (this.#seen !== null && answer.remaining === 0) this.#finishPass(this.#seen);
    else if (this.#partial && this.#final === null) this.resync();
    this.#noteBase();
  }

  /** A difference that did not come from the source: somebody changed a copy that is nobody's to change. */
  #lookAtOwn(): void {
    const { tracked, inventory, inScope } = this.#options;
    if (tracked === null || this.#seen !== null) return;
    const { incarnation, generation } = inventory;
    const since = this.#own.incarnation === incarnation ? this.#own.generation : 0;
    for (const { key } of inventory.changes(since, generation, Infinity).changes) {
      if (!inScope(key) || this.#pending.has(key)) continue;
      const wanted = this.#theirs.get(key) ?? { key, bytes: 0, sha256: "" as const, deleted: true };
      if (!this.#isApplied(wanted)) this.#enqueue(wanted);
    }
    this.#own = { incarnation, generation };
  }

  #isWanted({ key, deleted }: Change): boolean {
    const { selective, inScope, isShared } = this.#options;
    return !selective || inScope(key) || (isShared(key) && !deleted);
  }

  /** What the source did not name is not there any more. */
  #finishPass(seen: Set<string>): void {
    const { inventory, inScope, selective } = this.#options;
    this.#seen = null;
    // At a fence the source keeps back later changes of others, so only what is fenced can be said to be gone.
    this.#partial = this.#final !== null;
    const concerned = (key: string) => (!this.#partial && !selective) || inScope(key);
    const gone: string[] = [];
    let known = 0;
    for (const key of new Set([...inventory.keys(), ...this.#pending.keys()])) {
      if (!concerned(key)) continue;
      known += 1;
      if (!seen.has(key)) gone.push(key);
    }
    this.#deleteAll(this.#unnamed.judge(gone, known));
  }

  #deleteAll(keys: Iterable<string>): void {
    for (const key of keys) this.#enqueue({ key, bytes: 0, sha256: "", deleted: true });
  }

  #noteBase(): void {
    if (!this.#baseCopied && this.#seen === null && this.#pending.size + this.#unnamed.names.size === 0) {
      this.#baseCopied = true;
      this.#options.onChange();
    }
  }

  #isApplied(change: Change): boolean {
    const own = this.#options.inventory.get(change.key);
    if (change.deleted) return own === undefined;
    return own !== undefined && own.sha256 === change.sha256 && own.bytes === change.bytes;
  }

  #enqueue(change: Change): void {
    this.#pending.set(change.key, change);
    this.#failures.begin(change.key);
    this.#ready.add(change.key);
    this.#fillWorkers();
  }

  /** At a fence what is fenced comes first and does not wait for others' transfers to end. */
  #fillWorkers(): void {
    const { concurrency } = this.#options;
    if (this.#final !== null) {
      for (const key of this.#ready) {
        if (this.#active.size >= 2 * concurrency) return;
        if (this.#options.inScope(key)) this.#startWorker(key);
      }
    }
    for (const key of this.#ready) {
      if (this.#active.size >= concurrency) return;
      this.#startWorker(key);
    }
  }

  #startWorker(key: string): void {
    if (this.#active.has(key) || this.#ended.signal.aborted) return;
    this.#ready.delete(key);
    const work = this.#apply(key).finally(() => {
      this.#active.delete(key);
      this.#fillWorkers();
      if (this.#pending.size <= MAX_PENDING / 2) this.#room?.();
    });
    this.#active.set(key, work);
  }

  async #apply(key: string): Promise<void> {
    const change = this.#pending.get(key);
    if (change === undefined) return;
    const { onChange, tracked } = this.#options;
    try {
      if (tracked === null) await this.#make(change);
      else await tracked(key, () => this.#make(change));
    } catch (error) {
      if (!this.#ended.signal.aborted) this.#failed(change, error);
      return;
    }
    this.#failures.end(key);
    if (this.#pending.get(key) === change) {
      this.#pending.delete(key);
      this.#failures.begin(key);
      this.#noteBase();
      if (this.#pending.size === 0 || this.#pending.size % 100 === 0 || this.#final !== null) onChange();
    }
  }

  async #make(change: Change): Promise<void> {
    const { key } = change;
    const { backend, inventory, isShared, root } = this.#options;
    // Came back to what is here already.
    if (this.#isApplied(change)) return;
    if (isShared(key) && inventory.get(key) !== undefined)
      throw new CleaveError("MISMATCH", `${quoteKey(key)} is shared, and has another content on this Pod`);
    if (change.deleted) {
      await root.require();
      await backend.delete(key);
      inventory.delete(key);
      return;
    }
    // A folder below a disk that is gone takes copies as well, until it has filled another disk.
    await root.requireLately();
    let access: ObjectAccess | null = null;
    const expected = { bytes: change.bytes, sha256: change.sha256, access: () => access };
    const { version } = await backend.put(key, expected, async (offset) => {
      const body = await this.#fetch(change, offset);
      access = body.access;
      return body.stream;
    });
    // Where a disk was gone it was written below it, and is on no disk that will be there.
    await root.confirm();
    tally("objects", "objects", 1);
    tally("objects", "bytes", change.bytes);
    inventory.set(key, { bytes: change.bytes, sha256: change.sha256, version });
  }

  async #fetch(
    { key, bytes }: Change,
    offset: number,
  ): Promise<{ stream: Readable; access: ObjectAccess | null }> {
    const { client, rateLimit, inScope } = this.#options;
    const { signal } = this.#ended;
    const isUrgent = () => this.#final !== null && inScope(key);
    const { body, access } = await client.content(key, { offset, bytes }, signal);
    const limited = async function* () {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        if (!isUrgent()) await rateLimit.take(chunk.length, signal);
        yield chunk;
      }
    };
    return { stream: Readable.from(limited(), { objectMode: false }), access };
  }

  #failed(change: Change, error: unknown): void {
    const { key } = change;
    const { clock, log, onChange, inventory } = this.#options;
    const { retryMs, news } = this.#failures.note(change, inventory.get(key), error, clock.monotonic());
    if (news !== null) {
      log.warn({ key, err: error }, news.message);
      onChange();
    }
    const retry = async () => {
      await clock.sleep(retryMs, this.#ended.signal);
      if (this.#pending.has(key)) this.#ready.add(key);
      this.#fillWorkers();
    };
    void retry().catch(() => undefined);
  }

  #untilRoom(): Promise<void> {
    return new Promise<void>((resolve) => {
      this.#room = () => {
        this.#room = null;
        resolve();
      };
    });
  }
}
