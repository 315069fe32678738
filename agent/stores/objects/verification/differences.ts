/** What differs between two Pods' objects when their evidence does, for a person: the first keys, with both values. */
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import {
  type Difference,
  differencesText,
  NAMED_DIFFERENCES,
} from "../../common/verification/differences.ts";
import type { Inventory } from "../inventory/inventory.ts";
import type { PeerClient } from "../replication/source-feed.ts";

const LIMIT_MS = 30_000;

export interface DifferencesOptions {
  readonly migrationId: MigrationId;
  readonly sourcePodId: PodId;
  /** The one that asks. */
  readonly podId: PodId;
  readonly client: Pick<PeerClient, "changes">;
  readonly inventory: Inventory;
  readonly inScope: (key: string) => boolean;
}

/**
 * Asks the source for all that it has at the fence. Where no key differs, the two do not agree on whose they are.
 * @throws as `PeerClient.changes`; the signal's reason.
 */
export async function describeObjectDifferences(
  { migrationId, sourcePodId, podId, client, inventory, inScope }: DifferencesOptions,
  signal: AbortSignal,
): Promise<string> {
  const found: Difference[] = [];
  let more = 0;
  const note = (name: string, theirs: string | null, ours: string | null) => {
    if (found.length < NAMED_DIFFERENCES) found.push({ name, theirs, own: ours });
    else more += 1;
  };
  const seen = new Set<string>();
  for (let [incarnation, since, remaining] = ["", 0, 1]; remaining > 0; ) {
    // As one that has not heard of any fence: what waits for news is answered at once.
    const answer = await client.changes({ migrationId, incarnation, since, epoch: 0, waitMs: 0 }, signal);
    // The source's agent was restarted in between.
    if (incarnation !== "" && answer.incarnation !== incarnation) throw new Error("the source began anew");
    for (const entry of answer.entries) {
      if (!inScope(entry.key) || seen.has(entry.key)) continue;
      seen.add(entry.key);
      const ours = contentText(inventory.get(entry.key));
      const theirs = entry.deleted ? null : contentText(entry);
      if (theirs !== ours) note(entry.key, theirs, ours);
    }
    ({ incarnation, next: since, remaining } = answer);
  }
  for (const key of inventory.keys())
    if (inScope(key) && !seen.has(key)) note(key, null, contentText(inventory.get(key)));
  const text = differencesText(found, more, { source: sourcePodId, own: podId });
  return text || "no key differs: see that both Pods have the same ownership rules";
}

function contentText(entry: { readonly bytes: number; readonly sha256: string } | undefined): string | null {
  return entry === undefined ? null : `${entry.bytes} bytes, SHA-256 ${entry.sha256.slice(0, 16)}…`;
}

/** Asks once for each fence, in the background. */
export class FenceDifferences {
  readonly #options: DifferencesOptions & { readonly log: Logger };
  readonly #onChange: () => void;
  readonly #ended = new AbortController();
  #epoch: number | null = null;
  #text: string | null = null;

  constructor(options: DifferencesOptions & { readonly log: Logger }, onChange: () => void) {
    this.#options = options;
    this.#onChange = onChange;
  }

  /** Of the fence that is up and whose evidence differs; null until it is known. */
  at(epoch: number): string | null {
    if (this.#epoch === epoch) return this.#text;
    this.#epoch = epoch;
    this.#text = null;
    const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(LIMIT_MS)]);
    void describeObjectDifferences(this.#options, signal)
      .then((text) => {
        if (this.#epoch !== epoch) return;
        this.#text = text;
        this.#options.log.warn({ epoch }, `objects differ from the source at the fence: ${text}`);
        this.#onChange();
      })
      // A source that does not answer is a problem of its own.
      .catch(() => undefined);
    return null;
  }

  stop(): void {
    this.#ended.abort(new Error("no longer following"));
  }
}
