import type { Checker } from "../observer.ts";
import { exactCopies } from "./exact-copies.ts";
import type { Facts } from "./facts.ts";
import { singleAuthority } from "./i01-single-authority.ts";
import { noLostWrite } from "./i02-no-lost-write.ts";
import { wholeOrganizations } from "./i03-whole-organizations.ts";
import { noStaleRead } from "./i04-no-stale-read.ts";
import { untouchedNeighbours } from "./i05-untouched-neighbours.ts";
import { boundedReadOnly } from "./i06-bounded-read-only.ts";
import { noEarlyDeletion } from "./i07-no-early-deletion.ts";
import { replay } from "./i08-replay.ts";
import { exits } from "./i09-exits.ts";
import { reversibility } from "./i10-reversibility.ts";
import { nothingLeft } from "./leftovers.ts";
import { reverseReplicationCopies } from "./reverse-replication-copies.ts";
import { newestLife } from "./rule-03-newest-life.ts";
import { deletion } from "./rule-10-deletion.ts";
import { standsStill } from "./rule-13-stands-still.ts";

/** The invariants of docs/protocol.md, in its order, and those rules that a process could break without harm for long. */
export function allCheckers(facts: Facts): Checker[] {
  return [
    singleAuthority(facts),
    noLostWrite(facts),
    wholeOrganizations(facts),
    noStaleRead(facts),
    untouchedNeighbours(facts),
    boundedReadOnly(facts),
    noEarlyDeletion(facts),
    replay(facts),
    exits(facts),
    reversibility(facts),
    exactCopies(facts),
    reverseReplicationCopies(facts),
    nothingLeft(facts),
    newestLife(facts),
    deletion(facts),
    standsStill(facts),
  ];
}
