/**
 * The base copy of a move: a slot, the snapshot of its very position, and the rows of that snapshot in steps. What is
 * done is remembered in the transactions that do it; a copy whose snapshot is gone is removed and begun again.
 */

import { CleaveError } from "../../../protocol/errors.ts";
import type { Snapshot } from "./logical-slots.ts";
import type { MoveSession } from "./move-session.ts";
import type { Change, RowId } from "./state.ts";

const STEPS = 5;
const REMOVED_AT_ONCE = 20;

/** Until everything of the snapshot is here, and the origin says from where the stream goes on. */
export async function copyBase(
  session: MoveSession,
  signal: AbortSignal,
  onProgress: (done: number, total: number) => void,
): Promise<void> {
  const { own, slot, parts } = session;
  const { clock } = parts.run;
  if (own.state.origins.has(slot)) return;
  while (!(await session.ask(signal, ({ logical }) => logical.publications.has(slot))))
    await clock.sleep(100, signal);
  const begun = own.state.copying.get(slot);
  const isComplete =
    begun?.done === true &&
    (await session.ask(signal, ({ logical }) => logical.slots.get(slot)?.confirmed === begun.consistentAt));
  if (!isComplete) await copyRows(session, await snapshotFor(session, signal), signal, onProgress);
  const consistentAt = own.state.copying.get(slot)?.consistentAt ?? 0;
  await session.lent.administer([{ type: "origin", name: slot, position: consistentAt }], signal);
}

/** That of the copy which was begun, when somebody holds it still; else a new one, and nothing here. */
async function snapshotFor(session: MoveSession, signal: AbortSignal): Promise<Snapshot> {
  const { own, slot, source, parts } = session;
  const begun = own.state.copying.get(slot);
  const held = begun && (await session.ask(signal, ({ logical }) => logical.held(slot, begun.snapshot)));
  if (held) return held;
  if (!begun && session.rows(own).length > 0)
    throw new CleaveError("TARGET_HOLDS_ORGANIZATION", "rows are here that this copy did not bring");
  await session.ask(signal, ({ logical }) => logical.drop(slot));
  await removeCopied(session, signal);
  return source.logical.create(source, slot, parts.run, signal);
}

async function copyRows(
  session: MoveSession,
  snapshot: Snapshot,
  signal: AbortSignal,
  onProgress: (done: number, total: number) => void,
): Promise<void> {
  const { own, slot, parts } = session;
  const all = snapshot.rows.filter(({ organization }) => session.isTheirs(organization));
  const perStep = Math.max(1, Math.ceil(all.length / STEPS));
  for (let step = 0; step < STEPS; step++) {
    const done = own.state.copying.get(slot)?.rows ?? 0;
    if (step > 0 && step < STEPS - 1 && done >= (step + 1) * perStep) continue;
    await parts.run.clock.sleep(parts.copyMs / STEPS, signal);
    // Each step reads what it copies from a server that may be gone by now.
    const rows = await session.ask(signal, ({ logical }) =>
      logical.held(slot, snapshot.name) === null ? null : all.slice(done, (step + 1) * perStep),
    );
    if (rows === null) throw new Error("the snapshot of the source is gone");
    const isLast = step === STEPS - 1;
    const { name, consistentAt } = snapshot;
    const copy = { snapshot: name, consistentAt, rows: done + rows.length, done: isLast };
    const read = own.rottenCopies ? rows.slice(0, -1) : rows;
    if (read.length < rows.length) own.damaged = true;
    await session.write(read.map(copied), [{ type: "copying", name: slot, copy }], signal);
    onProgress(step + 1, STEPS);
  }
  session.source.logical.release(snapshot.name);
}

export const copied = ({ organization, write }: RowId): Change => ({
  type: "row",
  organization,
  write,
  copied: true,
});

/** Every row of the organizations that is here, and what is remembered of the copy. @returns how many rows */
export async function removeCopied(session: MoveSession, signal: AbortSignal): Promise<number> {
  const { own, slot, parts, duty } = session;
  // What a connection that was given up has sent comes still, and has to be there to be removed.
  while (own.hasHolders(duty.migrationId)) {
    await parts.run.clock.sleep(1, signal);
    own.requirePrimary("removal");
  }
  let count = 0;
  for (;;) {
    const rows = session.rows(own).slice(0, REMOVED_AT_ONCE);
    if (rows.length === 0) break;
    count += rows.length;
    await session.write([{ type: "remove", rows }], [], signal);
  }
  if (own.state.copying.has(slot))
    await session.lent.administer([{ type: "copying", name: slot, copy: null }], signal);
  return count;
}
