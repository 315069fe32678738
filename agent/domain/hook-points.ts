/**
 * Which hooks are due on a Pod, derived from the log and from what was called before: level-triggered, as duties are, so
 * that a restarted agent calls what its predecessor did not. Pure.
 */
import type { Migration } from "../../protocol/cluster.ts";
import type { PodId } from "../../protocol/ids.ts";

export type Point = "beforeFence" | "fenced" | "transferred" | "opened" | "aborted" | "beforeRemoval";

export interface HookCall {
  readonly point: Point;
  /** The same for every repetition of this call, and for no other of the migration. */
  readonly key: string;
  /** Which attempt at a cutover it belongs to, counted from 1; 0 before any. */
  readonly attempt: number;
}

export function roleOf(migration: Migration, self: PodId): "source" | "target" | null {
  if (migration.sourcePodId === self) return "source";
  return migration.context.shares[self] === undefined ? null : "target";
}

/** Before the fence of the next attempt. */
export function beforeFence({ context }: Migration): HookCall {
  const attempt = context.attempts + 1;
  return { point: "beforeFence", key: `beforeFence:${attempt}`, attempt };
}

export function fenced({ context }: Migration): HookCall {
  return { point: "fenced", key: `fenced:${context.attempts}`, attempt: context.attempts };
}

/** Null while no removal is about to begin: a dry run of the checks is none. */
export function beforeRemoval({ context }: Migration): HookCall | null {
  const { removalCheck, attempts } = context;
  if (!removalCheck?.open || !removalCheck.end) return null;
  return { point: "beforeRemoval", key: `beforeRemoval:${removalCheck.sequence}`, attempt: attempts };
}

/**
 * What is to be called until it succeeds, with nothing waiting for it. `begun` says of a key whether a call with it was
 * ever begun on this Pod: an attempt of which nothing was told need not be called back.
 */
export function dueAfterwards(
  migration: Migration,
  self: PodId,
  begun: (key: string) => boolean,
): HookCall[] {
  const role = roleOf(migration, self);
  if (role === null || migration.notUnderstood !== null) return [];
  const { context, lifecycle } = migration;
  const { transfer, attempts } = context;
  const call = (point: Point, key: string, attempt = attempts): HookCall => ({ point, key, attempt });
  if (lifecycle === "aborted") return [call("aborted", "aborted")];
  if (transfer === null)
    // Fences that were lowered: of each attempt that was told of, that it is over.
    return Array.from(
      { length: context.fenceUp ? Math.max(0, attempts - 1) : attempts },
      (_, index) => index + 1,
    )
      .filter((attempt) => begun(`beforeFence:${attempt}`) || begun(`fenced:${attempt}`))
      .map((attempt) => call("aborted", `aborted:${attempt}`, attempt));
  const own = context.shares[self];
  if (own === "revoked") return [call("aborted", "aborted:revoked")];
  const due = [call("transferred", "transferred")];
  const shares = Object.values(context.shares);
  const opened =
    role === "target"
      ? own === "opened"
      : shares.includes("opened") && shares.every((share) => share !== "closed");
  if (opened) due.push(call("opened", "opened"));
  // Every target gave its share back: nothing was handed over after all.
  if (role === "source" && shares.every((share) => share === "revoked"))
    return [call("aborted", "aborted:revoked")];
  return due;
}
