/** I4: what a client has seen, or was told is written, no later read misses; above all not after a new Pod served it. */
import type { Checker } from "../observer.ts";
import { type Facts, STORES } from "./facts.ts";

export function noStaleRead({ violated }: Facts): Checker {
  return {
    invariant: "I4",
    read({ organization, podId, floor, seen }) {
      for (const store of STORES)
        if (seen[store] < floor[store])
          violated(
            "I4",
            `${podId} served ${organization} with ${seen[store]} writes in ${store}, after ${floor[store]} had been seen`,
          );
    },
  };
}
