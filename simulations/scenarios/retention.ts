/** Stories of the end: pauses, the end of the retention, and the removal of what is dormant. */
import { crash, crashPostgres, fillDisk, operatorPauses, powerOff, silence } from "./happenings.ts";
import { given, type NamedStory } from "./story.ts";

const FINALIZED = { retention: { forMs: null, dryRunFirst: false } } as const;
const BY_THE_PLAN = { retention: { forMs: 1_500, dryRunFirst: false } } as const;

const PAUSABLE = ["seeding", "following", "ready", "retaining", "cleaning"] as const;

export const RETENTION_STORIES: readonly NamedStory[] = [
  ...PAUSABLE.map(
    (state): NamedStory => ({
      name: `paused-while-${state}`,
      about: `an operator pauses it while ${state}, and nothing is decided until it is resumed`,
      story: given({ ...(state === "retaining" ? BY_THE_PLAN : FINALIZED), settings: { settlingMs: 400 } })
        // It retains with the last target that opens, which may be a moment after the first one.
        .when(state, operatorPauses, { afterMs: state === "retaining" ? 400 : 1 })
        .expect("completed")
        .decides("MigrationPaused", "MigrationResumed", "RowsRemoved"),
    }),
  ),
  {
    name: "cleaning",
    about: "every agent dies while it removes what is dormant: each goes on where it was",
    story: given({ ...FINALIZED, clients: 12 })
      .when("cleaning", crash("pod-0"), { afterMs: 4 })
      .when("cleaning", crash("pod-100"), { afterMs: 8 })
      .when("cleaning", crash("c1"), { afterMs: 12 })
      .thenHeal(1_500)
      .expect("completed")
      .decides("RetentionEnded", "FilesRemoved", "RowsRemoved"),
  },
  {
    name: "completed",
    about: "everything loses power when nothing is left to do: routes are as they were",
    story: given(FINALIZED)
      .when("completed", powerOff("pod-0"))
      .when("completed", powerOff("pod-100"), { afterMs: 200 })
      .thenHeal()
      .expect("completed"),
  },
  {
    name: "removal-of-a-move",
    about: "the moved organization's copy is removed from its old Pod while both serve their others",
    story: given({ ...FINALIZED, move: true, clients: 12 })
      .when("cleaning", crashPostgres("pod-0"), { afterMs: 5 })
      .thenHeal(1_000)
      .expect("completed"),
  },
  {
    name: "removal-refused",
    about: "a Pod's PostgreSQL is down when it is asked what would go: the retention goes on, and ends later",
    story: given(BY_THE_PLAN)
      .when("retaining", crashPostgres("pod-100"), { afterMs: 700 })
      .thenHeal(4_000)
      .expect("completed")
      .decides("RemovalCheckStarted", "RemovalChecked", "RemovalCheckStarted", "RetentionEnded"),
  },
  {
    name: "dry-run-of-a-removal",
    about: "an operator looks at what would be removed before ending the retention",
    story: given({ retention: { forMs: null, dryRunFirst: true } })
      .expect("completed")
      .decides("RemovalCheckStarted", "RemovalChecked", "RemovalCheckStarted", "RetentionEnded"),
  },
  {
    name: "retention-by-the-plan",
    about: "the plan's time ends the retention, without an operator",
    story: given(BY_THE_PLAN)
      .expect("completed")
      .decidedBy("RemovalCheckStarted", /^coordinator:/),
  },
  {
    name: "revoked-share-and-removal",
    about: "a target that never opened is no voter in the removal: the source keeps what is its own again",
    story: given({ ...FINALIZED, settings: { openWithinMs: 2_000 } })
      .when("activating", powerOff("pod-100"))
      .thenHeal(9_000)
      .expect("completed")
      .decides("TransferRevoked", "RetentionEnded", "RowsRemoved"),
  },
  {
    name: "a-silent-pod-holds-the-removal-up",
    about: "an agent that says nothing is no yes: what is dormant there is waited for",
    story: given(FINALIZED)
      .when("cleaning", silence("pod-101"))
      .when("cleaning", fillDisk("pod-101"))
      .thenHeal(9_000)
      .expect("completed"),
  },
];
