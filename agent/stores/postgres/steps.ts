/** Which step a source or a target takes towards the goal of its duty. */

import type { Duty } from "../../../protocol/ports/store.ts";
import { misplacedDuty } from "../common/misplaced-duty.ts";

/** Resolves when the goal is reached, as the port says it of a store. */
export type Step = (duty: Duty, signal: AbortSignal) => Promise<void>;

export interface SourceSteps {
  /** Before the first fence, and again after one was lowered. */
  readonly serve: Step;
  readonly fence: Step;
  readonly yield: Step;
  readonly release: Step;
}

export interface TargetSteps {
  /** Also copies what is not here yet. */
  readonly follow: Step;
  readonly match: Step;
  readonly activate: Step;
  readonly open: Step;
  readonly release: Step;
}

/** Of every goal but those of a removal. @throws CleaveError INTERNAL when the goal is no source's. */
export function takeSourceStep(source: SourceSteps, duty: Duty, signal: AbortSignal): Promise<void> {
  switch (duty.goal) {
    case "prepare":
    case "serve":
      return source.serve(duty, signal);
    case "fence":
      return source.fence(duty, signal);
    case "yield":
      return source.yield(duty, signal);
    case "release":
      return source.release(duty, signal);
    default:
      throw misplacedDuty(duty);
  }
}

/** Of every goal but those of a removal. @throws CleaveError INTERNAL when the goal is no target's. */
export function takeTargetStep(target: TargetSteps, duty: Duty, signal: AbortSignal): Promise<void> {
  switch (duty.goal) {
    case "seed":
    case "follow":
      return target.follow(duty, signal);
    case "match":
      return target.match(duty, signal);
    case "activate":
      return target.activate(duty, signal);
    case "open":
      return target.open(duty, signal);
    case "release":
      return target.release(duty, signal);
    default:
      throw misplacedDuty(duty);
  }
}
