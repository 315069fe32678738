/** The stores that a migration's Pods have, in the order of the protocol, and what they are called. Pure. */
import type { StoreName } from "../../../../protocol/ids.ts";
import type { MigrationStatus } from "../../../api/ports.ts";
import { storeLabel } from "../../../domain/wording.ts";

const ORDER: readonly StoreName[] = ["postgres", "git", "objects"];

export function storesOf(migration: MigrationStatus): StoreName[] {
  return ORDER.filter((store) => migration.pods.some((pod) => pod.stores[store] !== undefined));
}

/** Only a split copies the server's WAL; everything else copies rows. */
export function labelOf(store: StoreName, kind: MigrationStatus["kind"]): string {
  return store === "postgres" && kind !== "split" ? "rows" : storeLabel(store);
}
