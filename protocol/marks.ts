/**
 * Named places in the code that a run may pass: branches that matter and that are rare. The simulator collects them,
 * and a run of many seeds that leaves one of them out has a hole. Without a collector a mark does nothing.
 */

/** Every mark and what has happened when it is passed. A test holds this list against the code. */
export const MARKS = {
  // protocol/
  "append-conflict": "another decision came first; this one is made again on the newer state",
  "append-unanswered": "an append got no answer; what the log holds says whether it happened",
  "record-known-already": "a record was delivered that is folded already",
  "log-asked-again": "the log did not answer and is asked again",
  "assignments-asked-again": "the assignments could not be loaded and are asked for again",
  "event-not-understood": "an event was folded that this process does not know",
  "log-folded-anew":
    "a checkpoint has gaps that this process may know how to fill: the log is folded from its beginning",
  // coordinator/domain/
  "behind-within-grace": "a ready migration is behind, but not for long enough to take that back",
  "behind-for-too-long": "a ready migration goes back to following",
  "attempts-used-up": "no attempt is left: a cutover needs an operator's approval",
  "fence-waits-for-checks": "a wanted fence waits for the checks before it",
  "fence-raised-by-approval": "an operator's approval raises the fence",
  "fence-raised-by-plan": "the plan raises the fence without an operator",
  "fence-lowered-by-a-coordinator":
    "the deadline passed before exact consensus; a coordinator lowers the fence",
  "drained-before-matched": "the source has drained, targets are still catching up",
  "drained-and-matched-at-once": "the source's and all targets' evidence arrived together",
  "late-target-revoked": "a target did not open in time; its share goes back",
  "revoked-by-an-operator": "an operator gives a share back",
  "abort-after-transfer-refused": "an operator wants to abort what is already transferred",
  "command-not-possible": "an operator wants what is not possible now",
  paused: "a migration is paused: nothing is decided by itself",
  "transfer-forced": "an operator accepts a loss: a copy takes over from a Pod that is gone for ever",
  "reverse-replication-given-up-by-an-operator": "an operator gives reverse replication from a Pod up",
  "rollback-without-a-reverse-replication":
    "reverse replication was given up while a rollback needed it: the rollback is aborted",
  "reverse-replication-over-budget":
    "a Pod's disk keeps more WAL for reverse replication than the plan allows: it is given up",
  "retention-ended-by-plan": "the plan's retention time is over",
  "removal-refused": "what is dormant cannot be removed: the retention goes on",
  "voter-missing": "an agent's report is missing or too old: unknown is no",
  "voter-does-not-understand": "an agent says that it does not know an event: it is no voter",
  "clock-differs": "an agent's clock differs by too much",
  "evidence-before-the-fence": "a report does not count, because its agent had not applied the fence",
  "contents-differ": "a target's content at the fence is not the source's",
  "report-of-a-former-life": "a report of an earlier incarnation is refused",
  "report-overtaken": "a report older than a known one is refused",
  // agent/
  "opening-came-too-late": "a target wants to open what is no longer its to open",
  "opening-waits-for-the-disk":
    "the stores are ready, and the transfer is not yet where a crash cannot take it",
  "opening-tried-again": "an opening could not be appended and is tried again",
  "fence-lowered-by-an-agent": "no coordinator lowered the fence after its deadline; an agent does",
  "source-said-dormant": "a target opens because the source said that it serves nothing any more",
  "lease-must-be-over": "a target opens because no read lease of the source can be left",
  "lease-not-renewed": "the log did not confirm a read lease",
  "checkpoint-failed": "a fold could not be written to the disk",
  "forgetting-failed": "that a migration is forgotten could not be written to the disk",
  "forgetting-waits-for-checkpoint": "an aborted migration is not forgotten before the abort is on the disk",
  released: "everything that an aborted migration left is removed",
  "revoked-target-stays-closed": "a target whose share went back does nothing more",
  "successor-waits-for-release": "a newer migration waits until what an aborted one left is gone",
  "standing-still": "an agent does nothing for a migration with an event that it does not know",
  "removal-paused": "a Pod removes nothing, because the migration is paused",
  "authoritative-is-kept": "a store may not remove an organization: this Pod is authoritative for it",
  "duty-preempted": "a store is called away from a duty by a newer one",
  "store-tried-again": "a store failed and is asked again after a pause",
  "store-tried-again-at-once":
    "a store failed on the path of the read-only window and is asked again at once",
  "check-repeated-for-a-peer": "a check found a peer away and is made again",
  "check-broke": "a check ended with an error: it has not passed",
  "write-refused-fenced": "the guard refuses a write while a fence is up",
  "read-served-fenced": "the source serves a read under its lease while a fence is up",
  "read-unconfirmed": "the source refuses a read, because it cannot confirm that it may serve it",
  "access-while-opening": "the guard refuses an access at the right Pod, which has not opened yet",
  "access-without-identity": "the guard refuses an access, because this agent does not know yet who it is",
} as const;

export type Mark = keyof typeof MARKS;

let collector: ((mark: Mark) => void) | null = null;

/** The code passed this place. */
export function mark(name: Mark): void {
  if (collector !== null) collector(name);
}

/** For the simulator: tells every mark that this thread passes, until the returned function is called. */
export function collectMarks(tell: (mark: Mark) => void): () => void {
  collector = tell;
  return () => {
    collector = null;
  };
}
