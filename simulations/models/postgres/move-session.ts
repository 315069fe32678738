/** What the parts of a move's target share: whose rows, where from, and how anything is written here. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { PostgresStoreParts } from "./parts.ts";
import type { PostgresServer } from "./server.ts";
import { slotName } from "./slot-names.ts";
import type { Change, RowId } from "./state.ts";

/** Changes that are sent to the server at once; those of a larger transaction arrive in several parts. */
const HELD = 8;
const COMMIT_MS = 1_000;

/** What a store lends to the part of it that is a move's target. */
export interface Lent {
  call<T>(
    what: string,
    timeoutMs: number,
    signal: AbortSignal,
    start: (done: (value: T) => void) => void,
  ): Promise<T>;
  administer(changes: readonly Change[], signal: AbortSignal): Promise<void>;
}

/** A change stream and a comparison: of a move, and of what flows back from its target later. */
export interface StreamSession {
  readonly parts: PostgresStoreParts;
  readonly lent: Lent;
  readonly duty: Duty;
  /** Also of the origin. */
  readonly slot: string;
  readonly own: PostgresServer;
  /** Where the changes come from. */
  readonly source: PostgresServer;
  /** Writers there note what they touch, so that it is compared soon. */
  readonly notesRows: boolean;
  readonly direction: "forth" | "back";
  /** Nothing is applied for now. */
  readonly isHeld: boolean;
  isTheirs(organization: string): boolean;
  /** What is there of the organizations. */
  rows(server: PostgresServer): RowId[];
  /** One statement on the source, and the time that it takes. @throws CleaveError PEER_UNREACHABLE. */
  ask<T>(signal: AbortSignal, answer: (source: PostgresServer) => T): Promise<T>;
  /** All of `changes` and `last` in one transaction, or nothing. */
  write(changes: readonly Change[], last: readonly Change[], signal: AbortSignal): Promise<void>;
}

export class MoveSession implements StreamSession {
  readonly parts: PostgresStoreParts;
  readonly lent: Lent;
  readonly duty: Duty;
  /** Also of the origin, and of what is remembered of the copy. */
  readonly slot: string;
  readonly notesRows = true;
  readonly direction = "forth";
  readonly isHeld = false;

  constructor(parts: PostgresStoreParts, lent: Lent, duty: Duty) {
    this.parts = parts;
    this.lent = lent;
    this.duty = duty;
    this.slot = slotName(duty.migrationId, duty.podId);
  }

  get own(): PostgresServer {
    return this.parts.own;
  }

  get source(): PostgresServer {
    return this.parts.serverOf(this.duty.sourcePodId);
  }

  isTheirs(organization: string): boolean {
    return this.duty.assignments.get(organization as never) === this.duty.podId;
  }

  rows(server: PostgresServer): RowId[] {
    return [...server.state.rows].flatMap(([organization, writes]) =>
      this.isTheirs(organization) ? writes.map((write) => ({ organization, write })) : [],
    );
  }

  ask<T>(signal: AbortSignal, answer: (source: PostgresServer) => T): Promise<T> {
    return askServer(this.parts, this.source, signal, answer);
  }

  /** Refused once this copy may not write any more. */
  write(changes: readonly Change[], last: readonly Change[], signal: AbortSignal): Promise<void> {
    const { migrationId, podId } = this.duty;
    const gate = () => {
      const phase = this.own.state.shares.get(migrationId)?.get(podId)?.phase;
      if (phase !== "source" && phase !== "fenced")
        throw new CleaveError("COMMAND_NOT_POSSIBLE", "not to be written to by a copy any more");
    };
    return writeCopy(this.parts, this.lent, { locks: [migrationId], gate, changes, last }, signal);
  }
}

export async function askServer<T>(
  { network, run, own }: PostgresStoreParts,
  source: PostgresServer,
  signal: AbortSignal,
  answer: (source: PostgresServer) => T,
): Promise<T> {
  await run.clock.sleep(network.delayMs(source.podId, own.podId), signal);
  if (!source.up || !network.connected(source.podId, own.podId))
    throw new CleaveError("PEER_UNREACHABLE", `the server of ${source.podId} does not answer`);
  return answer(source);
}

export interface CopyWrite {
  /** The migrations whose writer it counts as. */
  readonly locks: readonly string[];
  /** Throws when the copy may not be written to. */
  readonly gate: () => void;
  readonly changes: readonly Change[];
  readonly last: readonly Change[];
}

/** One transaction of a copy's role: at its gate it counts as a writer. */
export async function writeCopy(
  { own, run }: PostgresStoreParts,
  lent: Lent,
  { locks, gate, changes, last }: CopyWrite,
  signal: AbortSignal,
): Promise<void> {
  own.requirePrimary("writing a copy");
  const transaction = own.begin("read committed", run);
  if (transaction === null) throw new CleaveError("POSTGRES_UNREACHABLE", "the server does not answer");
  for (const lock of locks) transaction.locks.add(lock);
  try {
    gate();
    for (let from = 0; from < changes.length; from += HELD) {
      await run.clock.sleep(0.3, signal);
      if (transaction.status !== "open")
        throw new CleaveError("POSTGRES_UNREACHABLE", "the connection is gone");
      transaction.changes.push(...changes.slice(from, from + HELD));
    }
    transaction.changes.push(...last);
    await lent.call<boolean>("applying", COMMIT_MS, signal, (done) => own.commit(transaction, done));
  } finally {
    own.rollback(transaction);
  }
}
