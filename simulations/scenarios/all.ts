import { FOR_GOOD_STORIES } from "./for-good.ts";
import { LIFECYCLE_STORIES } from "./lifecycle.ts";
import { MOVE_STORIES } from "./moves.ts";
import { PEER_STORIES, VERSION_STORIES } from "./peers.ts";
import { RETENTION_STORIES } from "./retention.ts";
import { ROLLBACK_STORIES } from "./rollbacks.ts";
import type { NamedStory } from "./story.ts";

export const SCENARIOS: readonly NamedStory[] = [
  ...LIFECYCLE_STORIES,
  ...PEER_STORIES,
  ...VERSION_STORIES,
  ...MOVE_STORIES,
  ...RETENTION_STORIES,
  ...ROLLBACK_STORIES,
  ...FOR_GOOD_STORIES,
];

/** @throws Error naming all of them when there is none of that name. */
export function scenariosNamed(name: string): readonly NamedStory[] {
  if (name === "all") return SCENARIOS;
  const found = SCENARIOS.filter((scenario) => scenario.name === name);
  if (found.length === 0)
    throw new Error(
      `there is no scenario ${name}; there are all, ${SCENARIOS.map((one) => one.name).join(", ")}`,
    );
  return found;
}
