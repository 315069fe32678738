/**
 * How long an organization was read-only, as its clients saw it.
 *
 *     windowMs = first acknowledgement by the new Pod
 *                − first sending of a write that the new Pod answered in the end
 *
 * Every write that the fence refused or held back is answered by the new Pod in the end, so the second term is
 * when the first client began to wait. (A write that the source still carried out after that, because it had
 * begun before the fence, does not end the window.) Transactions that a client keeps open on purpose are left
 * out of the second term: their waiting begins when they were opened, which may be long before the fence.
 *
 * Clients cannot see a window in which they send nothing, so it is known to the distance between two writes.
 * Therefore `gapMs` is told as well: the whole time between the last acknowledgement by the old Pod and the first
 * by the new one, with the pause between two writes in it.
 */
import type { LedgerEntry } from "./ledger.ts";

export interface Window {
  readonly organization: string;
  readonly from: string;
  readonly to: string;
  readonly windowMs: number;
  readonly gapMs: number;
  /** Longest time between two acknowledgements of this organization in the whole run, whatever the reason. */
  readonly longestGapMs: number;
  /** Acknowledgement by the new Pod, in milliseconds since 1970. */
  readonly openedAt: number;
}

/** Windows of the organizations that the ledger shows to have moved from `from` to the Pod in `assignments`. */
export function windowsOf(
  entries: readonly LedgerEntry[],
  from: string,
  assignments: ReadonlyMap<string, string>,
): Window[] {
  const byOrganization = new Map<string, LedgerEntry[]>();
  for (const entry of entries) {
    if (entry.outcome !== "acknowledged" || entry.podId === null) continue;
    const list = byOrganization.get(entry.organization);
    if (list) list.push(entry);
    else byOrganization.set(entry.organization, [entry]);
  }
  const windows: Window[] = [];
  for (const [organization, to] of assignments) {
    const own = byOrganization.get(organization) ?? [];
    const before = own.filter((entry) => entry.podId === from);
    const after = own.filter((entry) => entry.podId === to);
    if (before.length === 0 || after.length === 0) continue;
    const lastBefore = maximum(before.map((entry) => entry.endedAt));
    const openedAt = minimum(after.map((entry) => entry.endedAt));
    const firstSent = minimum(after.filter((entry) => !entry.long).map((entry) => entry.sentAt));
    windows.push({
      organization,
      from,
      to,
      // Nothing but a long transaction crossed the window: then the gap is all that is known.
      windowMs: firstSent < openedAt ? openedAt - firstSent : openedAt - lastBefore,
      gapMs: openedAt - lastBefore,
      longestGapMs: longestGap(own),
      openedAt,
    });
  }
  return windows;
}

function longestGap(entries: readonly LedgerEntry[]): number {
  const times = entries.map((entry) => entry.endedAt).sort((a, b) => a - b);
  let longest = 0;
  for (let i = 1; i < times.length; i += 1)
    longest = Math.max(longest, (times[i] as number) - (times[i - 1] as number));
  return longest;
}

function minimum(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
}

function maximum(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
}

/** The value below which `share` of the values lie (nearest rank); null without values. */
export function percentile(values: readonly number[], share: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] as number;
}
