/** What the database names (repositories, objects), against what is there: a root that is not whole lacks some. */
import picomatch from "picomatch";
import { CleaveError, type ErrorCode } from "../../../../protocol/errors.ts";
import type { Finding } from "../../../../protocol/evidence.ts";
import type { StoreName } from "../../../../protocol/ids.ts";
import { counted } from "../../../../protocol/wording.ts";
import type { FenceMarker, Named, OwnerLookup } from "../inventory/owner-lookup.ts";

const LISTED = 10;

export interface NamedOptions {
  readonly store: StoreName & ("git" | "objects");
  readonly ownerLookup: Pick<OwnerLookup, "named">;
  readonly config: { readonly missing: "warn" | "refuse"; readonly acceptMissing: readonly string[] };
  /** What is there when it is asked for. */
  readonly there: () => Promise<(name: string) => boolean>;
}

const OF = {
  git: { code: "REPOSITORY_MISSING", one: "repository", many: "repositories" },
  objects: { code: "OBJECT_MISSING", one: "object", many: "objects" },
} as const satisfies Record<NamedOptions["store"], { code: ErrorCode; one: string; many: string }>;

/** Of one migration's part on one Pod. */
export class NamedItems {
  readonly #options: NamedOptions;
  readonly #isAccepted: (name: string) => boolean;
  /** Missing at the last check, which named them to an operator; null before the first. */
  #said: ReadonlySet<string> | null = null;

  constructor(options: NamedOptions) {
    this.#options = options;
    const accepted = options.config.acceptMissing.map((pattern) => picomatch(pattern, { dot: true }));
    this.#isAccepted = (name) => accepted.some((match) => match(name));
  }

  /**
   * A check before the fence. Empty when all that are named are there, but for those that the configuration accepts as
   * missing. Of a whole Pod (`scope` absent) it is an error when none is there, whatever the configuration says: what is
   * there is not what belongs to this database. @throws as `OwnerLookup.named`.
   */
  async findings(scope?: (one: Named) => boolean): Promise<Finding[]> {
    const { store, config } = this.#options;
    const { missing, expected } = await this.#ask(null, scope ?? (() => true));
    this.#said = new Set(missing);
    if (missing.length === 0) return [];
    const { code, many } = OF[store];
    const none = scope === undefined && missing.length === expected;
    const message = `of ${expected} ${many} that the database names, ${none ? "none is there: it names " : ""}${listedOf(store, missing)} not there`;
    const severity = none || config.missing === "refuse" ? "error" : "warning";
    return [{ store, severity, code, message: message.slice(0, 2_000) }];
  }

  /**
   * A target's part of the evidence: what its own database names once it is at the marker, against what is there once
   * `matched`. What the last check named is known to be missing; anything else is not equal to what the rows say.
   * @throws CleaveError REPOSITORY_MISSING, OBJECT_MISSING with the first ten; as `OwnerLookup.named`; the signal's reason.
   */
  async requireAtFence(
    marker: FenceMarker,
    scope: (one: Named) => boolean,
    matched: (signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const ended = new AbortController();
    const both = AbortSignal.any([signal, ended.signal]);
    // Asked beside everything else that is waited for, and looked at again when that has come.
    const asked = Promise.all([this.#ask(marker, scope, both), matched(both)]);
    const [{ missing: suspects }] = await asked.finally(() =>
      ended.abort(new Error("the other part failed")),
    );
    const isThere = await this.#options.there();
    const missing = suspects.filter((name) => !isThere(name));
    const known = this.#options.config.missing === "warn" ? this.#said : null;
    const unsaid = missing.filter((name) => !known?.has(name));
    if (unsaid.length === 0) return;
    const { store } = this.#options;
    throw new CleaveError(
      OF[store].code,
      `at the fence the database names ${listedOf(store, unsaid)} not there`.slice(0, 2_000),
    );
  }

  async #ask(
    marker: FenceMarker | null,
    scope: (one: Named) => boolean,
    signal?: AbortSignal,
  ): Promise<{ readonly missing: string[]; readonly expected: number }> {
    const { store, ownerLookup, there } = this.#options;
    const isThere = await there();
    const missing = new Set<string>();
    let expected = 0;
    const visit = (page: readonly Named[]) => {
      for (const one of page) {
        if (this.#isAccepted(one.name) || !scope(one)) continue;
        expected += 1;
        if (!isThere(one.name)) missing.add(one.name);
      }
    };
    while (!(await ownerLookup.named(store, marker, visit))) signal?.throwIfAborted();
    return { missing: [...missing], expected };
  }
}

function listedOf(store: NamedOptions["store"], names: readonly string[]): string {
  return listed(names, OF[store]);
}

/** `3 repositories ("a", "b", "c") that are`, with the first ten and how many more. */
export function listed(
  names: readonly string[],
  { one, many }: { readonly one: string; readonly many: string } = OF.git,
): string {
  const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : "";
  const first = names.slice(0, LISTED).map((name) => JSON.stringify(name));
  return `${counted(names.length, one, many)} (${first.join(", ")}${more}) that ${names.length === 1 ? "is" : "are"}`;
}
