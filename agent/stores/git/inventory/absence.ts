/** Repositories that are not there any more: deleted, or only not there (protocol, rule 15). */
import picomatch from "picomatch";
import { toCleaveError } from "../../../../protocol/errors.ts";
import type { OwnProblem } from "../../../../protocol/evidence.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { OwnerLookup } from "../../common/inventory/owner-lookup.ts";
import type { KnownRoot } from "../../common/root/known-root.ts";
import { Losses } from "../../common/root/losses.ts";
import { listed } from "../../common/verification/named.ts";
import type { RepositoryBackend } from "../backend/backend.ts";
import type { GitConfig } from "../config.ts";

/** Whoever deletes one may be deleting many: what goes at about the same time is judged together. */
const GATHER_MS = 100;
/** A verdict was about all that was missing: it holds for a moment. */
const VALID_MS = 1_000;

export interface AbsenceOptions {
  readonly backend: Pick<RepositoryBackend, "exists" | "place">;
  readonly root: KnownRoot;
  readonly ownerLookup: OwnerLookup;
  readonly clock: Clock;
  readonly config: Pick<GitConfig, "lossBound" | "acceptMissing">;
  /** That were there when they were looked at last. */
  readonly known: () => Iterable<string>;
}

interface Verdict {
  readonly code: OwnProblem["code"];
  readonly why: string;
}
/** Path → why it does not count as deleted; null when it does. Without those that are there. */
type Verdicts = ReadonlyMap<string, Verdict | null>;

export class Absence {
  readonly #options: AbsenceOptions;
  readonly #losses: Losses;
  readonly #isAccepted: (path: string) => boolean;
  /** As the database named them at the last look: what it does not name any more was deleted there. */
  #named: ReadonlyMap<string, OrganizationId> = new Map();
  #gathering: Promise<Verdicts> | null = null;
  #newest: { readonly at: number; readonly verdicts: Verdicts } | null = null;
  /** Milliseconds since 1970: a word of before was not about what is held. */
  #heldSince: number | null = null;
  /** What is not there and does not count as deleted. */
  readonly #held = new Map<string, OwnProblem["code"]>();
  /** Why nobody could look; null after a look. */
  #failure: OwnProblem | null = null;
  /** Nobody waits for others that may go too. */
  urgent = false;

  constructor(options: AbsenceOptions) {
    this.#options = options;
    this.#losses = new Losses(options.config.lossBound, options.clock);
    const matches = options.config.acceptMissing.map((pattern) => picomatch(pattern, { dot: true }));
    this.#isAccepted = (path) => matches.some((match) => match(path));
  }

  /** What is not there and does not count as deleted; empty when it is all there again. */
  get problems(): readonly OwnProblem[] {
    if (this.#held.size === 0) return [];
    if (this.#failure !== null) return [this.#failure];
    const of = (code: OwnProblem["code"]) =>
      [...this.#held].flatMap(([path, held]) => (held === code ? [path] : []));
    const found: OwnProblem[] = [];
    const [missing, lost] = [of("REPOSITORY_MISSING"), of("ROOT_LOSSES")];
    if (missing.length > 0)
      found.push(problem("REPOSITORY_MISSING", `the database names ${listed(missing)} not there`));
    if (lost.length > 0)
      found.push(
        problem(
          "ROOT_LOSSES",
          `${this.#options.backend.place}: nobody announced the deletion of ${listed(lost)} not there`,
        ),
      );
    return found;
  }

  /** It is there. */
  seen(path: string): void {
    this.#held.delete(path);
  }

  /** What the database names, for those that look anyway. */
  noteNamed(named: ReadonlyMap<string, OrganizationId>): void {
    // One that it does not name any more is remembered until its absence was judged by that.
    if (this.#named.size === 0) this.#named = named;
    else this.#named = new Map([...named, ...[...this.#named].filter(([path]) => !named.has(path))]);
  }

  /** Why a repository that was not there just now does not count as deleted; null when it does; undefined: it is there. */
  async reasonToKeep(path: string): Promise<string | null | undefined> {
    const verdict = await this.#verdictOf(path);
    if (verdict) this.#held.set(path, verdict.code);
    else this.#held.delete(path);
    return verdict ? verdict.why : verdict;
  }

  async #verdictOf(path: string): Promise<Verdict | null | undefined> {
    const { clock } = this.#options;
    const { urgent } = this;
    const newest = this.#newest;
    if (newest !== null && clock.monotonic() - newest.at < VALID_MS && newest.verdicts.has(path))
      return newest.verdicts.get(path);
    this.#gathering ??= (async () => {
      // Never at once: this would end before it is remembered as what is under way, and be remembered for ever.
      await (urgent ? null : clock.sleep(GATHER_MS));
      this.#gathering = null;
      return this.#look();
    })();
    return (await this.#gathering).get(path);
  }

  async #look(): Promise<Verdicts> {
    const { backend, root, known, clock } = this.#options;
    const paths = [...known()];
    const absent: string[] = [];
    const verdicts = new Map<string, Verdict | null>();
    this.#failure = null;
    try {
      await root.require();
      for (const path of paths) if (!(await backend.exists(path))) absent.push(path);
      await root.require();
      await this.#judge(absent, paths.length, verdicts);
    } catch (thrown) {
      // Nobody knows what is there, so nothing counts as deleted.
      const { code, message } = toCleaveError(thrown, "ROOT_UNREADABLE");
      this.#failure = problem(code, message);
      for (const path of paths) verdicts.set(path, { code, why: message });
    }
    this.#newest = { at: clock.monotonic(), verdicts };
    return verdicts;
  }

  async #judge(
    absent: readonly string[],
    known: number,
    verdicts: Map<string, Verdict | null>,
  ): Promise<void> {
    const { root, ownerLookup, clock } = this.#options;
    const named = absent.length === 0 ? this.#named : await ownerLookup.repositories();
    const missing = absent.filter((path) => named.has(path) && !this.#isAccepted(path));
    // What the database has let go was seen to be deleted there.
    const unheard = absent.filter((path) => !named.has(path) && !this.#named.has(path));
    const isPlausible = this.#losses.isPlausible(unheard.length, known);
    if (missing.length > 0 || !isPlausible) this.#heldSince ??= clock.now();
    else this.#heldSince = null;
    for (const path of absent) verdicts.set(path, null);
    this.#named = named;
    if (this.#heldSince !== null && root.lossesAcceptedAt > this.#heldSince) {
      this.#heldSince = null;
      this.#losses.forget();
      return;
    }
    for (const path of missing)
      verdicts.set(path, { code: "REPOSITORY_MISSING", why: "it is not there, and the database names it" });
    if (isPlausible) return this.#losses.believe(unheard.length);
    for (const path of unheard)
      verdicts.set(path, { code: "ROOT_LOSSES", why: "it is not there, as so many others" });
  }
}

function problem(code: OwnProblem["code"], message: string): OwnProblem {
  return { code, message: message.slice(0, 2_000) };
}
