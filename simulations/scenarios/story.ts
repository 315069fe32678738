/**
 * A small language for stories about a cluster, each a few lines that an operator can read:
 *
 *     given({ targets: 2 }).when("fencing", crash("pod-0")).thenHeal().expect("retaining")
 *
 * A story becomes a scenario as any seed draws one, so it runs the real program with all checkers on, and what it
 * expects comes on top of them.
 */
import type { EventType } from "../../protocol/events.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import type { Fault } from "../faults/fault.ts";
import type { Report } from "../run.ts";
import { type Incident, type MoveScenario, ofMoves, type Scenario } from "../scenario.ts";

/** The event with which a migration enters a state; a test holds it against the machine. */
export const ENTERED_BY: Readonly<Record<Lifecycle, EventType>> = {
  planned: "MigrationPlanned",
  preflight: "PreflightStarted",
  refused: "PreflightRefused",
  seeding: "PreflightPassed",
  following: "SeedingCompleted",
  ready: "ReplicasCaughtUp",
  fencing: "FenceRaised",
  matching: "SourceDrained",
  transferring: "ConsensusReached",
  activating: "AuthorityTransferred",
  retaining: "Opened",
  cleaning: "RetentionEnded",
  completed: "RowsRemoved",
  aborted: "MigrationAborted",
};

/** What happens to the cluster. Times are counted from when the state is entered. */
export type Happening = Omit<Fault, "when" | "forMs"> | Pick<Incident, "command" | "target">;

export interface Timing {
  readonly afterMs?: number;
  /** The second time that the state is entered, say. */
  readonly nth?: number;
  /** By itself over after so long, whatever the story says of healing. */
  readonly forMs?: number;
  /** The state is that of the first rollback. */
  readonly of?: "rollback";
}

interface Moment {
  readonly state: Lifecycle;
  readonly happening: Happening;
  readonly timing: Timing;
}

/** Returns what is not as expected, in words; null when it is. */
type Expectation = (report: Report) => string | null;

const CALM: Scenario = {
  targets: 2,
  organizations: 6,
  neighbours: 2,
  clients: 5,
  longShare: 0,
  approval: "auto",
  settings: { settlingMs: 300, deadlineMs: 1_500, drainGraceMs: 150, openWithinMs: 4_000, readLeaseMs: 500 },
  copyMs: 300,
  promotionMs: 60,
  clocks: {},
  incidents: [],
  faults: [],
  calmAtMs: 25_000,
};
const firstOf = ({ scenario }: Report) => (scenario.move ? "move-1" : "split-1");
/** What `move: true` in a story means. */
const MOVE: MoveScenario = { residents: 3, rows: 3 };

export type Given = Partial<Omit<Scenario, "settings" | "incidents" | "faults" | "move">> & {
  /** One organization of `pod-0` goes to `pod-100`, which serves others. */
  readonly move?: true | MoveScenario;
  readonly settings?: Partial<Scenario["settings"]>;
};

export class Story {
  readonly #given: Given;
  readonly #moments: readonly Moment[];
  readonly #healAfterMs: number | null;
  readonly #expectations: readonly Expectation[];

  constructor(
    given: Given,
    moments: readonly Moment[],
    healAfterMs: number | null,
    expectations: readonly Expectation[],
  ) {
    this.#given = given;
    this.#moments = moments;
    this.#healAfterMs = healAfterMs;
    this.#expectations = expectations;
  }

  /** When the migration enters that state, this happens. */
  when(state: Lifecycle, happening: Happening, timing: Timing = {}): Story {
    const moments = [...this.#moments, { state, happening, timing }];
    return new Story(this.#given, moments, this.#healAfterMs, this.#expectations);
  }

  /** Everything so far is over so long after it began; without this, when the run's time for faults is over. */
  thenHeal(afterMs = 3_000): Story {
    return new Story(this.#given, this.#moments, afterMs, this.#expectations);
  }

  /** Where the migration ends. After a refusal or an abort the operator plans again, and that ends in `retaining`. */
  expect(lifecycle: Lifecycle): Story {
    return this.and((report) => {
      const { ends } = report;
      const end = ends[firstOf(report)];
      if (end !== lifecycle) return `the migration ended as ${end}, not as ${lifecycle}`;
      // A rollback may come to nothing; whoever wants one says so.
      const last = Object.entries(ends).findLast(([id]) => !id.includes("-back-"))?.[1];
      return last === "retaining" || last === "completed" ? null : `the last plan ended as ${last}`;
    });
  }

  /** These decisions of the first migration, in this order, with others between them. */
  decides(...types: readonly EventType[]): Story {
    return this.and((report) => {
      const first = firstOf(report);
      const made = report.decisions
        .filter(({ migrationId }) => migrationId === first)
        .map(({ type }) => type);
      let at = 0;
      for (const type of made) if (type === types[at]) at += 1;
      return at === types.length ? null : `${types[at]} is missing in ${made.join(", ")}`;
    });
  }

  /** Never of the first migration. */
  neverDecides(type: EventType): Story {
    return this.and((report) =>
      report.decisions.some((made) => made.migrationId === firstOf(report) && made.type === type)
        ? `${type} was decided`
        : null,
    );
  }

  /** Who made the first decision of that type. */
  decidedBy(type: EventType, by: RegExp): Story {
    return this.and(({ decisions }) => {
      const made = decisions.find((decision) => decision.type === type);
      return made && by.test(made.by) ? null : `${type} was decided by ${made?.by ?? "nobody"}`;
    });
  }

  /** That process said that it met an event which it does not know. */
  saysThatItStandsStill(host: string): Story {
    return this.and(({ standingStill }) =>
      standingStill.includes(host) ? null : `${host} never said that it does not know an event`,
    );
  }

  and(expectation: Expectation): Story {
    return new Story(this.#given, this.#moments, this.#healAfterMs, [...this.#expectations, expectation]);
  }

  scenario(): Scenario {
    const { move, ...rest } = this.#given;
    const given = { ...CALM, ...rest, settings: { ...CALM.settings, ...rest.settings } };
    const faults: Fault[] = [];
    const incidents: Incident[] = [];
    for (const { state, happening, timing } of this.#moments) {
      const on = timing.of && state === "planned" ? "RollbackPlanned" : ENTERED_BY[state];
      // Each target opens; with the last of them the state is entered.
      const opened = state === "retaining" && move === undefined ? given.targets : 1;
      const nth = timing.nth ?? opened + (timing.of && state !== "planned" ? 1 : 0);
      const afterMs = timing.afterMs ?? 0;
      if ("command" in happening) incidents.push({ ...happening, on, afterMs });
      else
        faults.push({
          ...happening,
          when: { on, nth, afterMs },
          forMs: timing.forMs ?? this.#healAfterMs ?? given.calmAtMs,
        });
    }
    if (move === undefined) return { ...given, faults, incidents };
    return ofMoves({ ...given, faults, incidents, move: move === true ? MOVE : move });
  }

  /** What is not as it should be, beside what the checkers say. */
  unmet(report: Report): string[] {
    const never = this.scenario().faults.length - report.faultsApplied.length;
    const missing = never > 0 ? [`${never} of the story's faults never happened`] : [];
    return [...missing, ...this.#expectations.flatMap((expectation) => expectation(report) ?? [])];
  }
}

export function given(cluster: Given = {}): Story {
  return new Story(cluster, [], null, []);
}

export interface NamedStory {
  readonly name: string;
  /** One line, for `--help`. */
  readonly about: string;
  readonly story: Story;
}
