/** What differs between two Pods' copies of one repository, for a person: the first of it, with both values. */
import type { PodId } from "../../../../protocol/ids.ts";
import {
  type Difference,
  differencesText,
  NAMED_DIFFERENCES,
} from "../../common/verification/differences.ts";
import type { RepositoryItem } from "../backend/backend.ts";
import { type RepositoryEntry, sameRepository } from "../inventory/repository-entry.ts";
import type { InventoryView } from "./inventory-view.ts";

/** So many items are looked at on each side; what comes after them is not counted. */
const MAX_ITEMS = 2_000_000;

export interface Side {
  readonly podId: PodId;
  /** Sorted by the bytes of the name. */
  readonly items: AsyncIterable<RepositoryItem>;
}

/** Empty when both have the same now. @throws when a side cannot be read to its end. */
export async function describeDifferences(source: Side, own: Side): Promise<string> {
  const found: Difference[] = [];
  let more = 0;
  const note = (name: string, theirs: string | null, ours: string | null) => {
    if (found.length < NAMED_DIFFERENCES)
      found.push({ name: utf8(name), theirs: utf8(theirs), own: utf8(ours) });
    else more += 1;
  };
  const sides = [source.items[Symbol.asyncIterator](), own.items[Symbol.asyncIterator]()] as const;
  try {
    let [theirs, ours] = [await next(sides[0]), await next(sides[1])];
    for (let count = 0; count < MAX_ITEMS && (theirs !== null || ours !== null); count++) {
      if (ours === null || (theirs !== null && theirs.name < ours.name)) {
        if (theirs !== null) note(theirs.name, theirs.value, null);
        theirs = await next(sides[0]);
      } else if (theirs === null || ours.name < theirs.name) {
        note(ours.name, null, ours.value);
        ours = await next(sides[1]);
      } else {
        if (theirs.value !== ours.value) note(ours.name, theirs.value, ours.value);
        [theirs, ours] = [await next(sides[0]), await next(sides[1])];
      }
    }
  } finally {
    for (const side of sides) await side.return?.(undefined);
  }
  return differencesText(found, more, { source: source.podId, own: own.podId });
}

/** Of evidence that differs although every repository was copied: which, by what each side says it has. */
export function wholeDifferences(
  theirs: ReadonlyMap<string, RepositoryEntry>,
  view: InventoryView,
  inventory: { get(path: string): RepositoryEntry | undefined },
  pods: { readonly source: PodId; readonly own: PodId },
): string {
  const found: Difference[] = [];
  for (const path of new Set([...theirs.keys(), ...view.paths])) {
    const entry = theirs.get(path);
    const has = entry !== undefined && !entry.deleted && view.covers(entry);
    const own = view.paths.has(path);
    if (has !== own) found.push({ name: path, theirs: has ? "it" : null, own: own ? "it" : null });
    else if (has && !sameRepository(entry, inventory.get(path)))
      found.push({ name: path, theirs: "another state", own: "its own" });
  }
  return differencesText(found, 0, pods) || "none of them says in which repository";
}

async function next(items: AsyncIterator<RepositoryItem>): Promise<RepositoryItem | null> {
  const { done, value } = await items.next();
  return done ? null : value;
}

/** Names are bytes; those that are no text are shown as they are. */
function utf8<T extends string | null>(text: T): T {
  if (text === null) return text;
  const decoded = Buffer.from(text, "latin1").toString("utf8");
  return (decoded.includes("\ufffd") ? text : decoded) as T;
}
