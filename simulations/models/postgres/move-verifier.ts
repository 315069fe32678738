/**
 * Compares a move's target with its source all the time: every row, again and again, and soon each row that a writer
 * noted. As agent/stores/postgres/verification/verifier.ts does it, and independently of the change stream.
 */
import { hash32 } from "../../world/random.ts";
import type { MoveFollower } from "./move-follower.ts";
import type { StreamSession } from "./move-session.ts";
import type { PostgresServer } from "./server.ts";
import type { RowId, SnapshotId } from "./state.ts";

const LOOK_EVERY_MS = 50;
const RETRY_MS = 500;
const PASS_EVERY_MS = 30_000;
/** Where nobody notes what is touched. */
const PASS_WITHOUT_NOTES_MS = 4_000;

const idOf = ({ organization, write }: RowId) => `${organization} ${write}`;
const has = (server: PostgresServer, { organization, write }: RowId) =>
  server.state.rows.get(organization)?.includes(write) === true;

export class MoveVerifier {
  readonly #session: StreamSession;
  readonly #follower: MoveFollower;
  readonly #onChange: () => void;
  readonly #stopping = new AbortController();
  readonly #differences = new Map<string, RowId>();
  #passes = 0;
  /** Up to where touched rows are compared; null before the first pass. */
  #since: SnapshotId | null = null;
  /** Under a fence nothing is remembered. */
  paused = false;

  constructor(session: StreamSession, follower: MoveFollower, onChange: () => void) {
    this.#session = session;
    this.#follower = follower;
    this.#onChange = onChange;
  }

  start(): void {
    const { signal } = this.#stopping;
    void this.#forever(() => this.#pass(signal));
    if (this.#session.notesRows) void this.#forever(() => this.#look(signal));
  }

  stop(): void {
    this.#stopping.abort(new Error("the comparison is stopped"));
  }

  get verified(): boolean {
    return this.#passes > 0 && this.#since !== null && this.#differences.size === 0;
  }

  get differences(): readonly RowId[] {
    return [...this.#differences.values()];
  }

  async #forever(work: () => Promise<number>): Promise<void> {
    const { signal } = this.#stopping;
    const { clock } = this.#session.parts.run;
    while (!signal.aborted) {
      const pauseMs = await work().catch(() => RETRY_MS);
      await clock.sleep(pauseMs, signal).catch(() => undefined);
    }
  }

  async #pass(signal: AbortSignal): Promise<number> {
    const session = this.#session;
    const { snapshot, rows } = await session.ask(signal, (source) => ({
      snapshot: source.state.version,
      rows: session.rows(source),
    }));
    const known = new Map([...rows, ...session.rows(session.own)].map((row) => [idOf(row), row]));
    const found = await this.#compare([...known.values()], signal);
    this.#differences.clear();
    this.#note(found);
    // From here on what is touched is compared; everything before was by this pass.
    this.#since ??= snapshot;
    this.#passes += 1;
    this.#onChange();
    return session.notesRows ? PASS_EVERY_MS : PASS_WITHOUT_NOTES_MS;
  }

  async #look(signal: AbortSignal): Promise<number> {
    if (this.#since === null || this.paused) return LOOK_EVERY_MS;
    const session = this.#session;
    const { migrationId } = session.duty;
    const since = this.#since;
    const { snapshot, rows } = await session.ask(signal, (source) => ({
      snapshot: source.state.version,
      rows: readTouched(source, migrationId, since),
    }));
    this.#note(await this.#compare(rows, signal));
    const again = this.differences;
    this.#differences.clear();
    this.#note(await this.#compare(again, signal));
    // A row that differs stays noted: it is compared at the fence too.
    if (this.#differences.size > 0 || snapshot === since) return LOOK_EVERY_MS;
    if (await this.#save(snapshot, signal)) this.#since = snapshot;
    return LOOK_EVERY_MS;
  }

  #note(found: readonly RowId[]): void {
    for (const row of found) this.#differences.set(idOf(row), row);
    if (found.length > 0) this.#onChange();
  }

  /** Those that are on one side alone, although everything that the source had has arrived. */
  async #compare(rows: readonly RowId[], signal: AbortSignal): Promise<RowId[]> {
    const { own } = this.#session;
    const suspects = await this.#session.ask(signal, (source) =>
      rows.filter((row) => has(source, row) !== has(own, row)),
    );
    if (suspects.length === 0) return [];
    const before = await this.#session.ask(signal, (source) => ({
      position: source.position,
      rows: suspects.filter((row) => has(source, row)),
    }));
    await this.#follower.reached(before.position, signal);
    const theirs = new Set(suspects.filter((row) => has(own, row)).map(idOf));
    return this.#session.ask(signal, (source) =>
      suspects.filter(
        (row) =>
          this.#session.isTheirs(row.organization) &&
          has(source, row) !== theirs.has(idOf(row)) &&
          has(source, row) === before.rows.includes(row),
      ),
    );
  }

  /** As any writer would: while a fence is up or waits for writers, nothing is remembered. */
  async #save(snapshot: SnapshotId, signal: AbortSignal): Promise<boolean> {
    const { duty, lent } = this.#session;
    const { migrationId, podId } = duty;
    const mayRemember = (source: PostgresServer) =>
      !source.isFencing(migrationId) && source.state.shares.get(migrationId)?.get(podId)?.phase === "source";
    const begins = await this.#session.ask(signal, mayRemember);
    if (!begins) return false;
    const { source } = this.#session;
    await lent.call<void>("remembering", 1_000, signal, (done) =>
      source.administer(
        [
          { type: "verified", migrationId, snapshot },
          { type: "prune", migrationId, snapshot },
        ],
        done,
      ),
    );
    return true;
  }
}

/** The rows noted since a snapshot of the source; all of them when that is null. */
export function readTouched(
  source: PostgresServer,
  migrationId: string,
  since: SnapshotId | null,
): readonly RowId[] {
  const notes = source.state.touched.get(migrationId) ?? [];
  return notes.flatMap(({ row, version }) => (since === null || version > since ? [row] : []));
}

/**
 * The marker's token says that the target applied everything; its snapshot, that everything up to there was compared; and
 * the digest is of what was touched since.
 */
export function moveEvidence(
  server: PostgresServer,
  marker: { readonly token: string; readonly verified: SnapshotId | null },
  touched: readonly RowId[],
): string {
  let sum = 0;
  for (const row of touched) sum = (sum + hash32(`${idOf(row)} ${has(server, row)}`)) >>> 0;
  return `${marker.token}/${marker.verified ?? "never compared"}/${touched.length}/${sum.toString(16)}`;
}
