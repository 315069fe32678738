/** What is not listed any more: deleted, or only not there (protocol, rule 15). */
import type { OwnProblem } from "../../../../protocol/evidence.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import { counted } from "../../../../protocol/wording.ts";
import type { KnownRoot } from "../../common/root/known-root.ts";
import { type LossBound, Losses } from "../../common/root/losses.ts";
import type { FileFence } from "../../file-fence/file-fence.ts";
import type { ObjectBackend } from "../backend/backend.ts";
import { quoteKey } from "./keys.ts";

const NAMED = 10;

export interface AbsenceOptions {
  readonly backend: ObjectBackend;
  readonly root: KnownRoot;
  readonly lossBound: LossBound;
  readonly fence: FileFence;
  readonly clock: Clock;
}

export class Absence {
  readonly #options: AbsenceOptions;
  readonly #losses: Losses;
  #held: readonly string[] = [];
  /** Milliseconds since 1970: a word of before was not about these. */
  #heldSince: number | null = null;

  constructor(options: AbsenceOptions) {
    this.#options = options;
    this.#losses = new Losses(options.lossBound, options.clock);
  }

  /** Null while all that was missing at the last look counts as deleted. */
  get problem(): OwnProblem | null {
    return lossesProblem(this.#options.backend.place, this.#held);
  }

  /** Its deletion was announced after all. */
  heard(key: string): void {
    if (!this.#held.includes(key)) return;
    this.#held = this.#held.filter((one) => one !== key);
    if (this.#held.length === 0) this.#heldSince = null;
  }

  /**
   * `found`: all of the `known` that a look at everything did not find; or some, by a look at those alone (`partial`), which
   * count together with what is held. Those that are in neither answer are held back.
   */
  async judge(
    found: readonly string[],
    known: number,
    { partial }: { readonly partial: boolean } = { partial: false },
  ): Promise<{ readonly announced: string[]; readonly believed: string[] }> {
    const { fence, root, clock } = this.#options;
    const gone = partial ? [...new Set([...this.#held, ...found])] : found;
    if (gone.length === 0) {
      this.#held = [];
      this.#heldSince = null;
      return { announced: [], believed: [] };
    }
    // A write that was announced is no word of a deletion: it may have failed because the object is lost.
    const heard = await fence.inflightKeys("objects", "delete");
    for (const { key, change } of await fence.takeDirty("objects"))
      if (key !== null && change === "delete") heard.add(key);
    const announced = gone.filter((key) => heard.has(key));
    const rest = gone.filter((key) => !heard.has(key));
    if (this.#losses.isPlausible(rest.length, known)) this.#losses.believe(rest.length);
    else {
      this.#heldSince ??= clock.now();
      if (root.lossesAcceptedAt <= this.#heldSince) {
        this.#held = rest;
        return { announced, believed: [] };
      }
      this.#losses.forget();
    }
    this.#held = [];
    this.#heldSince = null;
    return { announced, believed: rest };
  }
}

/** Null when nothing is. @param keys all that are gone unannounced */
export function lossesProblem(place: string, keys: readonly string[]): OwnProblem | null {
  if (keys.length === 0) return null;
  const more = keys.length > NAMED ? ` and ${keys.length - NAMED} more` : "";
  const names = keys.slice(0, NAMED).map(quoteKey).join(", ");
  const message = `${place}: ${counted(keys.length, "object")} of which nobody announced a deletion are not there: ${names}${more}`;
  return { code: "ROOT_LOSSES", message: message.slice(0, 2_000) };
}
