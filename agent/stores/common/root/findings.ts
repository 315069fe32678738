/** A store's root as a check of its door says it. */
import { toCleaveError } from "../../../../protocol/errors.ts";
import type { CheckStage, Finding } from "../../../../protocol/evidence.ts";
import type { StoreName } from "../../../../protocol/ids.ts";
import type { KnownRoot } from "./known-root.ts";

/**
 * Empty when the root is the one that is known, whole and readable; or when none is known yet, which is noted, so that what
 * is seeded is what was checked.
 */
export async function rootFindings(store: StoreName, root: KnownRoot, stage: CheckStage): Promise<Finding[]> {
  try {
    if (stage === "start") await root.note();
    else await root.require();
    return [];
  } catch (thrown) {
    const { code, message } = toCleaveError(thrown, "ROOT_UNREADABLE");
    return [{ store, severity: "error", code, message: message.slice(0, 2_000) }];
  }
}
