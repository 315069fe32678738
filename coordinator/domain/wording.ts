/** What stores are called when something is said of them. */
import type { StoreName } from "../../protocol/ids.ts";

const LABELS: Record<StoreName, string> = { postgres: "WAL", git: "Git", objects: "objects" };

export function storeLabel(store: StoreName): string {
  return LABELS[store];
}
