/**
 * What a move's target goes by, and whatever flows back later: which tables there are on both Pods, as of a moment of the
 * Pod that the stream comes from (here the source). It is made again whenever the stream comes to a change of the source's
 * schema that it does not know, and whenever this Pod's own was changed; it stands as soon as both have the same: until then
 * the stream waits right there, and says what is missing.
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
import { type Database, WarmConnection } from "../server/connection.ts";
import { hasJournal, readSchemaChanges } from "../verification/schema-changes.ts";
import type { AsOf } from "../verification/schema-comparison.ts";
import { snapshotOf } from "../verification/touched.ts";

const LOOK_EVERY_MS = 100;
const WITHOUT_SIZES = { sizes: false };

export interface Plan {
  readonly moving: Moving;
  /** The target's. */
  readonly schema: Schema;
  readonly asOf: AsOf;
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
  readonly #connections: readonly [WarmConnection, WarmConnection];
  #plan: Plan | null = null;
  #isVisible: (xid: number) => boolean = () => false;

  constructor(options: PlanOptions) {
    this.#options = options;
    const named = { applicationName: "cleave-plan" };
    this.#connections = [
      new WarmConnection(options.source, named),
      new WarmConnection(options.options.config, named),
    ];
  }

  close(): void {
    for (const connection of this.#connections) connection.close();
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
    const [theirs, own] = this.#connections;
    try {
      for (;;) {
        const plan = await theirs.use((there) => own.use((here) => this.#renew(there, here)));
        if (plan !== null) return plan;
        await sleep(LOOK_EVERY_MS, undefined, { signal });
      }
    } catch (error) {
      // Who has no plan yet may not come again.
      if (this.#plan === null) for (const connection of this.#connections) connection.reset();
      throw error;
    }
  }

  /** Null while nobody notes what is changed after the schema was read. */
  async #renew(there: Database, here: Database): Promise<Plan | null> {
    const { options, migrationId, defaultPodId, organizations } = this.#options;
    const { ownership } = options;
    // Before the snapshots: what is changed after them has to be noted.
    const isNoted = this.#plan !== null || (await hasJournal(there));
    // The schemas that are read after them have everything that they have.
    const [source, target] = await Promise.all([snapshotOf(there), snapshotOf(here)]);
    const [theirs, ours] = await Promise.all([
      readSchema(there, WITHOUT_SIZES),
      readSchema(here, WITHOUT_SIZES),
    ]);
    for (const schema of [theirs, ours]) this.suspects.learn(schema);
    const made = this.#plannedBy(() => planMove(theirs, ours, ownership, organizations));
    if (!isNoted) return null;
    // Whoever is in the middle of a comparison by it goes on.
    const moving = JSON.stringify(made) === JSON.stringify(this.#plan?.moving) ? this.plan.moving : made;
    // A table that is new here has to be guarded before its first row comes; and that is a change of the schema as well.
    if (await installGuard(here, { ownership, defaultPodId, migrationId }))
      return await this.#renew(there, here);
    // Of what was compared before, after a restart too; of what is here, from the first plan on.
    const known = this.#plan?.asOf ?? null;
    const changes = await readSchemaChanges(there, migrationId, known?.source ?? null, source);
    if (known !== null) changes.push(...(await readSchemaChanges(here, migrationId, known.target, target)));
    for (const { relations } of changes) {
      // A partition that was dropped before anybody looked may have been of any table.
      const isAny = known === null && relations?.some((name) => !this.suspects.knows(name, theirs)) === true;
      this.suspects.note(isAny ? null : relations, moving);
    }
    this.#plan = { moving, schema: ours, asOf: { source, target } };
    this.#isVisible = visibility(source);
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
