/** How Cleave's own connections write a moving organization's rows to the target. */
import { CleaveError } from "../../../../protocol/errors.ts";
import { quoteLiteral } from "../server/queryable.ts";

/** SQL for the settings of a session. */
export const settingsSql = (settings: Readonly<Record<string, string>>): string =>
  Object.entries(settings)
    .map(([name, value]) => `SET ${name} = ${quoteLiteral(value)}`)
    .join("; ");

/**
 * Beside what every session has (server/session-settings.ts): triggers and foreign keys of the target see nothing of what
 * is applied; they are checked before the fence.
 */
export const APPLY_SETTINGS = settingsSql({ session_replication_role: "replica" });

/** Of connections that write to the target. */
export interface ApplySession {
  /** SQL that is run once, after `APPLY_SETTINGS`. */
  readonly setup: string;
  /** SQL at the beginning of every transaction that writes: it fails (CL409) when this copy may not write any more. */
  readonly gate: string;
  /**
   * SQL at the beginning of a transaction that removes what such transactions wrote: from then on all of them are over. A
   * server goes on with a commit whose connection was given up, and its rows would come after the removal.
   */
  readonly alone?: string;
}

const BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED";

/** SQL that begins a transaction that writes to the target. */
export function beginApplying(session: ApplySession | undefined): string {
  return session === undefined ? BEGIN : `${BEGIN}; ${session.gate}`;
}

/** The same, when nobody else is writing any more. */
export function beginRemoving(session: ApplySession | undefined): string {
  if (session === undefined) return BEGIN;
  // Locks first: what the gate reads, and what is removed, has to be as they left it.
  return [BEGIN, ...(session.alone === undefined ? [] : [session.alone]), session.gate].join("; ");
}

/** What the gate says is no fault of the server. */
export function atTheGate(error: unknown): unknown {
  const { code, message } = error as { code?: string; message?: string };
  return code === "CL409" ? new CleaveError("COMMAND_NOT_POSSIBLE", message ?? "", { cause: error }) : error;
}
