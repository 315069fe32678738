/**
 * What a move's target goes by, and whatever flows back later: which tables there are on both Pods, as of a moment of the
 * Pod that the stream comes from (here the source). It is made again whenever the stream comes to a change of the source's
 * schema that it does not know, and stands as soon as this Pod has the same: until then the stream waits right there, and
 * says what is missing.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { CleaveError, invariant } from "../../../../protocol/errors.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../../protocol/ids.ts";
import type { Endpoint } from "../config.ts";
import type { PostgresStoreOptions } from "../context.ts";
import { installGuard } from "../fence/install.ts";
import { readSchema, type Schema } from "../inventory/schema.ts";
import { type Moving, planMove } from "../replication/moved-tables.ts";
import { type SchemaChanges, Suspects } from "../replication/suspects.ts";
import { visibility } from "../replication/visibility.ts";
import { connect, type Database, discard } from "../server/connection.ts";
import { hasJournal, readSchemaChanges } from "../verification/schema-changes.ts";
import { snapshotOf } from "../verification/touched.ts";

const LOOK_EVERY_MS = 100;

export interface Plan {
  readonly moving: Moving;
  /** The target's. */
  readonly schema: Schema;
  /** Of the source: every change of the schema that it has is in the plan. */
  readonly snapshot: string;
}

export interface PlanOptions {
  readonly options: PostgresStoreOptions;
  readonly source: Endpoint;
  readonly migrationId: MigrationId;
  readonly defaultPodId: PodId;
  readonly organizations: readonly OrganizationId[];
  /** How this Pod is called in what is missing here; default: the target. */
  readonly called?: PodId;
}

export class PlanKeeper implements SchemaChanges {
  readonly #options: PlanOptions;
  readonly suspects = new Suspects();
  #plan: Plan | null = null;
  #isVisible: (xid: number) => boolean = () => false;

  constructor(options: PlanOptions) {
    this.#options = options;
  }

  isKnown(xid: number): boolean {
    return this.#isVisible(xid);
  }

  /** The one that was made last; `renew` makes the first. */
  get plan(): Plan {
    invariant(this.#plan !== null, "there is no plan of the move yet");
    return this.#plan;
  }

  /**
   * Waits for the source's guard, which its own agent installs.
   * @throws CleaveError SCHEMA_DIFFERS, naming each difference; OWNERSHIP_RULE_MISSING; what either server says; the
   * signal's reason.
   */
  async renew(signal?: AbortSignal): Promise<Plan> {
    const { source, options } = this.#options;
    const opened: Database[] = [];
    try {
      for (const endpoint of [source, options.config])
        opened.push(await connect(endpoint, { applicationName: "cleave-plan" }));
      const [there, here] = opened as [Database, Database];
      for (;;) {
        const plan = await this.#renew(there, here);
        if (plan !== null) return plan;
        await sleep(LOOK_EVERY_MS, undefined, { signal });
      }
    } finally {
      for (const db of opened) discard(db);
    }
  }

  /** Null while nobody notes what is changed after the schema was read. */
  async #renew(there: Database, here: Database): Promise<Plan | null> {
    const { options, migrationId, defaultPodId, organizations } = this.#options;
    const { ownership } = options;
    // Before the snapshot: what is changed after it has to be noted.
    const isNoted = this.#plan !== null || (await hasJournal(there));
    // The schema that is read after it has everything that it has.
    const snapshot = await snapshotOf(there);
    const [theirs, ours] = [await readSchema(there), await readSchema(here)];
    for (const schema of [theirs, ours]) this.suspects.learn(schema);
    const made = this.#plannedBy(() => planMove(theirs, ours, ownership, organizations));
    if (!isNoted) return null;
    // Whoever is in the middle of a comparison by it goes on.
    const moving = JSON.stringify(made) === JSON.stringify(this.#plan?.moving) ? this.plan.moving : made;
    // Of what was compared before, after a restart too.
    const known = this.#plan?.snapshot ?? null;
    for (const { relations } of await readSchemaChanges(there, migrationId, known, snapshot)) {
      // A partition that was dropped before anybody looked may have been of any table.
      const isAny = known === null && relations?.some((name) => !this.suspects.knows(name, theirs)) === true;
      this.suspects.note(isAny ? null : relations, moving);
    }
    // A table that is new here has to be guarded before its first row comes.
    await installGuard(here, { ownership, defaultPodId, migrationId });
    this.#plan = { moving, schema: ours, snapshot };
    this.#isVisible = visibility(snapshot);
    return this.#plan;
  }

  /** What flows back has another Pod as its target than the migration. */
  #plannedBy(work: () => Moving): Moving {
    const { called } = this.#options;
    try {
      return work();
    } catch (error) {
      if (called === undefined || !(error instanceof CleaveError)) throw error;
      throw new CleaveError(error.code, error.message.replaceAll("the target", called), { cause: error });
    }
  }
}
