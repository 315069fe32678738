/** Stories of who never comes back: the others have to come to an end without them. */
import { crash, forGood, isolate, powerOff } from "./happenings.ts";
import { given, type NamedStory } from "./story.ts";

const QUICK_TO_GIVE_BACK = { settings: { openWithinMs: 2_000 } } as const;

export const FOR_GOOD_STORIES: readonly NamedStory[] = [
  {
    name: "coordinator-gone-for-good",
    about: "one of two coordinators dies under the fence and is never started again: the other one decides",
    story: given({})
      .when("fencing", forGood(crash("c1")))
      .expect("retaining"),
  },
  {
    name: "coordinator-cut-off-for-good",
    about:
      "one of two coordinators runs on and reaches nobody, ever: what it decides for itself counts nowhere",
    story: given({})
      .when("matching", forGood(isolate("c2")))
      .expect("retaining"),
  },
  {
    name: "target-gone-for-good-before-the-fence",
    about: "a target's machine burns down while copies follow: aborted, and planned again without it",
    story: given({ targets: 3 })
      .when("following", forGood(powerOff("pod-101")))
      .expect("aborted")
      .neverDecides("AuthorityTransferred"),
  },
  {
    name: "target-gone-for-good-at-the-transfer",
    about: "a target's machine burns down before it opens: its share goes back, and the rest is finalized",
    story: given({ ...QUICK_TO_GIVE_BACK, retention: { forMs: null, dryRunFirst: false } })
      .when("activating", forGood(powerOff("pod-101")))
      .expect("completed")
      .decides("AuthorityTransferred", "TransferRevoked", "RowsRemoved"),
  },
  {
    name: "target-cut-off-for-good-at-the-transfer",
    about:
      "a target that is promoted and reaches nobody, ever, never opens: its organizations are served at the source",
    story: given({ ...QUICK_TO_GIVE_BACK, clients: 12 })
      .when("activating", forGood(isolate("pod-101")), { afterMs: 20 })
      .expect("retaining")
      .decides("AuthorityTransferred", "TransferRevoked"),
  },
];
