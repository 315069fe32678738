/** Plain words for people: what a store is doing, and numbers ("4.2 MB", "1 repository"). */
import type { Goal } from "./evidence.ts";

/** What a store is doing for a migration, as operators read it everywhere. A goal is the protocol's own word for it. */
export const STORE_STATES = {
  prepare: "preparing",
  serve: "serving",
  fence: "read-only",
  yield: "dormant",
  seed: "copying",
  follow: "following",
  match: "proving equal",
  activate: "promoting",
  open: "serving",
  removeFiles: "removing",
  removeRows: "removing",
  release: "cleaning up",
} as const satisfies Record<Goal, string>;
export type StoreState = (typeof STORE_STATES)[Goal];

export function counted(amount: number, one: string, many = `${one}s`): string {
  return `${amount} ${amount === 1 ? one : many}`;
}

/** `unit` is `bytes` or the name of what is counted. */
export function formatAmount(amount: number, unit: string): string {
  if (unit !== "bytes") return `${amount} ${unit}`;
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = amount;
  let index = 0;
  while (value >= 1000 && index < units.length - 1) {
    value /= 1000;
    index += 1;
  }
  return `${value >= 100 || index === 0 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} ${units[index]}`;
}
