/** What the parts of a way back share: whose rows, where from, and the gate that a carrier of changes passes. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { MigrationId, PodId } from "../../../protocol/ids.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { askServer, type Lent, type StreamSession, writeCopy } from "./move-session.ts";
import type { PostgresStoreParts } from "./parts.ts";
import type { PostgresServer } from "./server.ts";
import { backSlotName } from "./slot-names.ts";
import type { Change, RowId } from "./state.ts";

export class BackSession implements StreamSession {
  readonly parts: PostgresStoreParts;
  readonly lent: Lent;
  readonly slot: string;
  readonly notesRows = false;
  readonly direction = "back";
  readonly #peerPodId: PodId;
  /** Rollbacks between their transfer and their opening. */
  readonly #heldBy = new Set<MigrationId>();
  #duty: Duty;

  constructor(parts: PostgresStoreParts, lent: Lent, duty: Duty, peerPodId: PodId) {
    this.parts = parts;
    this.lent = lent;
    this.#peerPodId = peerPodId;
    this.#duty = duty;
    this.slot = backSlotName(duty.migrationId, peerPodId);
    this.told(duty);
  }

  /** The source's newest duty: what is rolled back by now. */
  told(duty: Duty): void {
    this.#duty = duty;
    this.#heldBy.clear();
    for (const { migrationId, podId, phase } of duty.rollbacks)
      if (podId === this.#peerPodId && phase === "transferred") this.#heldBy.add(migrationId);
  }

  hold(rollback: MigrationId): void {
    this.#heldBy.add(rollback);
  }

  get isHeld(): boolean {
    return this.#heldBy.size > 0;
  }

  get duty(): Duty {
    return this.#duty;
  }

  get own(): PostgresServer {
    return this.parts.own;
  }

  get source(): PostgresServer {
    return this.parts.serverOf(this.#peerPodId);
  }

  isTheirs(organization: string): boolean {
    const { assignments, rollbacks } = this.#duty;
    if (assignments.get(organization as never) !== this.#peerPodId) return false;
    return !rollbacks.some(
      (rollback) => rollback.phase === "opened" && rollback.assignments.has(organization as never),
    );
  }

  rows(server: PostgresServer): RowId[] {
    return [...server.state.rows].flatMap(([organization, writes]) =>
      this.isTheirs(organization) ? writes.map((write) => ({ organization, write })) : [],
    );
  }

  ask<T>(signal: AbortSignal, answer: (source: PostgresServer) => T): Promise<T> {
    return askServer(this.parts, this.source, signal, answer);
  }

  /** Into a copy that is dormant here, and that no rollback is about to open or has opened. */
  write(changes: readonly Change[], last: readonly Change[], signal: AbortSignal): Promise<void> {
    const { migrationId } = this.#duty;
    const { state } = this.own;
    const locks = [migrationId, ...this.#duty.rollbacks.map((rollback) => rollback.migrationId)];
    const gate = () => {
      if (this.isHeld) throw new CleaveError("COMMAND_NOT_POSSIBLE", "a rollback is being opened");
      if (state.shares.get(migrationId)?.get(this.#peerPodId)?.phase !== "opened")
        throw new CleaveError("COMMAND_NOT_POSSIBLE", "what is here is not dormant");
      for (const { migrationId: id, podId } of this.#duty.rollbacks) {
        if (podId !== this.#peerPodId) continue;
        const staged = state.routes.get(id)?.assignments;
        const share = staged && [...(state.shares.get(id)?.values() ?? [])][0];
        if (share?.phase !== "transferred" && share?.phase !== "opened") continue;
        if (changes.some((change) => "organization" in change && staged?.has(change.organization as never)))
          throw new CleaveError("COMMAND_NOT_POSSIBLE", `${id} took an organization of these back`);
      }
    };
    return writeCopy(this.parts, this.lent, { locks, gate, changes, last }, signal);
  }
}
