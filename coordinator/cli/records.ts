/** The log through the API, page by page. */
import { CleaveError } from "../../protocol/errors.ts";
import type { StoredRecord } from "../api/ports.ts";
import { type ApiClient, EVENTS_PAGE } from "./client.ts";

/** @throws CleaveError HISTORY_INCOMPLETE when the coordinator no longer has the log's beginning at hand. */
export async function allRecords(client: ApiClient): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  for (let after = 0; ; ) {
    const page = await client.events(after);
    if (!page.complete)
      throw new CleaveError(
        "HISTORY_INCOMPLETE",
        "the coordinator began with a checkpoint and has only later records",
      );
    records.push(...page.records);
    const last = records.at(-1);
    if (!last || page.records.length < EVENTS_PAGE) return records;
    after = last.sequence;
  }
}
