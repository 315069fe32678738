/** The plan of a migration: what an operator writes (YAML or JSON) and what the log keeps of it. */
import { z } from "zod";
import { MigrationId, OrganizationId, PodId } from "./ids.ts";

const milliseconds = z
  .number()
  .int()
  .nonnegative()
  .max(7 * 24 * 3600 * 1000);

/** What has to hold, and for how long, before and during the cutover. Defaults suit a Pod of some terabytes. */
export const Settings = z.strictObject({
  /** How far a target may lag to count as caught up (first consensus). */
  lagBounds: z
    .strictObject({
      postgresBytes: z
        .number()
        .int()
        .nonnegative()
        .default(1024 * 1024),
      gitRepositories: z.number().int().nonnegative().default(5),
      objects: z.number().int().nonnegative().default(50),
    })
    .prefault({}),
  /** For how long every target has to stay within the bounds. */
  settlingMs: milliseconds.default(5_000),
  cutover: z
    .strictObject({
      /** `manual`: an operator approves each attempt. `auto`: at the first consensus. */
      approval: z.enum(["manual", "auto"]).default("manual"),
      /** How long organizations may be read-only before the source serves them again. */
      deadlineMs: milliseconds.min(100).default(30_000),
      /** How long writers in flight may take to finish before they are terminated. */
      drainGraceMs: milliseconds.default(1_000),
      /** With `auto`: attempts before the migration waits for an operator (nothing copied is thrown away). */
      attempts: z.number().int().min(1).max(100).default(3),
      /** How long a target may take to open after the transfer before its share is revoked. */
      openWithinMs: milliseconds.min(1_000).default(120_000),
      /** How long a read at the fenced source stays allowed after it last confirmed the log. */
      readLeaseMs: milliseconds.min(100).default(2_000),
    })
    .prefault({}),
  /**
   * What replication slots may keep on a disk: before the transfer on the source's, and while retaining on that of each
   * new Pod, for the way back.
   */
  walBudget: z
    .strictObject({
      /** Null: as much as the disk has. */
      bytes: z.number().int().positive().nullable().default(null),
      /** `abort` drops the slots (after the transfer: gives up the way back); `warn` leaves it to the operator. */
      exceeded: z.enum(["abort", "warn"]).default("abort"),
    })
    .prefault({}),
  /**
   * Of a split: `apart` gives each Pod's sequences a range of their own, so that organizations can be moved between the
   * Pods later. `shared` leaves them as they are: for applications whose keys come from elsewhere.
   */
  numbering: z.enum(["apart", "shared"]).default("apart"),
  /**
   * Of a split: further databases of the source's server, by name, that are copied although nobody fences them, so that
   * each Pod has a writable one of its own. Absent: none, and a split of such a server is refused.
   */
  acceptedDatabases: z.array(z.string().min(1).max(63)).min(1).max(1_000).optional(),
  retention: z
    .strictObject({
      /** How long after the transfer what was left behind is kept for the way back; null: until an operator ends it. */
      forMs: z
        .number()
        .int()
        .nonnegative()
        .max(366 * 24 * 3600 * 1000)
        .nullable()
        .default(null),
      /**
       * `replicated`: whatever the new Pods change flows back to the source until the retention is over, so that a
       * rollback loses nothing. `none`: what was left behind stays as it was at the transfer, and there is no rollback.
       */
      reverseReplication: z.enum(["replicated", "none"]).default("replicated"),
    })
    .prefault({}),
  rateLimits: z
    .strictObject({
      /** Per target, in bytes per second; null for as fast as it goes. */
      baseBackupBytesPerSecond: z.number().int().positive().nullable().default(null),
      objectBytesPerSecond: z.number().int().positive().nullable().default(null),
      /** Repositories mirrored at once, per target. */
      gitConcurrency: z.number().int().min(1).max(64).default(4),
      objectConcurrency: z.number().int().min(1).max(256).default(8),
    })
    .prefault({}),
});
export type Settings = z.infer<typeof Settings>;

/** `split`: new Pods become replicas of the whole source. `move`: organizations go to one Pod that exists already. */
export const PlanKind = z.enum(["split", "move"]);
/** `rollback`: organizations go back to copies that the migration before has kept level; no plan is written for it. */
export type MigrationKind = z.infer<typeof PlanKind> | "rollback";

const Assignment = z.union([
  /** `{pod: pod-100, organizations: [gitlab-org, 42]}` */
  z.strictObject({
    pod: PodId,
    organizations: z
      .array(z.union([z.string(), z.number().int()]).transform(String).pipe(OrganizationId))
      .min(1),
  }),
  /** `{pod: pod-100, file: big-customers.txt}`: one organization a line; the CLI replaces it by its content. */
  z.strictObject({ pod: PodId, file: z.string().min(1) }),
]);

/** The plan as written by an operator. Organizations that it does not name stay on the source. */
export const Plan = z.strictObject({
  version: z.literal(1).default(1),
  migration: MigrationId,
  kind: PlanKind.default("split"),
  source: PodId,
  assignments: z.array(Assignment).min(1),
  settings: Settings.prefault({}),
});
export type Plan = z.infer<typeof Plan>;
/** The plan before defaults are filled in: the type to write by hand in code. */
export type PlanInput = z.input<typeof Plan>;
