/** Readers: what they read may not be older than what was acknowledged, or seen by anyone, before they asked. */
import type { Client } from "./client.ts";
import type { TrafficRepository } from "./git.ts";
import { advertisedRefs } from "./git-refs.ts";
import { issuePath } from "./issues.ts";
import type { Knowledge, Known } from "./knowledge.ts";
import { objectPath, revisionOf } from "./objects.ts";
import type { SeededRandom } from "./random.ts";

/** One stale read, for the report. */
export interface StaleRead {
  readonly kind: string;
  readonly organization: string;
  readonly key: string;
  readonly podId: string | null;
  readonly read: string;
  readonly expected: string;
}

/** What was known when a read began. */
interface Floor {
  readonly revision: number;
  readonly deleted: boolean;
  readonly busy: boolean;
}

const MAX_KEPT = 20;

export class Reader {
  readonly #client: Client;
  readonly #knowledge: Knowledge;
  readonly #random: SeededRandom;
  reads = 0;
  stale = 0;
  readonly staleReads: StaleRead[] = [];

  constructor(client: Client, knowledge: Knowledge, random: SeededRandom) {
    this.#client = client;
    this.#knowledge = knowledge;
    this.#random = random;
  }

  /** Reads one issue or object of an organization. */
  async read(organization: string): Promise<void> {
    const kind = this.#random.next() < 0.7 ? "issue" : "object";
    const keys = this.#knowledge.readable(kind, organization);
    if (keys.length === 0) return;
    const known = this.#random.pick(keys);
    const floor = floorOf(known);
    const path = kind === "issue" ? issuePath(organization, known.key) : objectPath(organization, known.key);
    const answer = await this.#client.send("GET", path);
    if (answer === null || answer.status >= 500) return;
    this.reads += 1;
    if (answer.status === 404) {
      // A deletion is final for a key, so it may be seen early (while it is under way) but never undone.
      if (!floor.deleted && !deletionMayHaveBegun(known)) this.#note(known, answer.podId, "nothing", floor);
      return;
    }
    const revision = kind === "issue" ? issueRevision(answer.body) : revisionOf(answer.body);
    if (answer.status !== 200 || revision === null) this.#client.unexpected(`${kind} GET ${answer.status}`);
    else if (floor.deleted) this.#note(known, answer.podId, `revision ${revision}`, floor);
    else if (revision < floor.revision) this.#note(known, answer.podId, `revision ${revision}`, floor);
    else known.seenRevision = Math.max(known.seenRevision, revision);
  }

  /** Reads a repository's refs and checks every ref that the traffic wrote in it. */
  async readRefs({ organization, project }: TrafficRepository): Promise<void> {
    const keys = this.#knowledge
      .readable("ref", organization)
      .filter((known) => known.key.startsWith(`${project} `))
      .map((known) => ({ known, floor: floorOf(known) }));
    const refs = await advertisedRefs(this.#client, organization, project);
    if (refs === null) return;
    this.reads += 1;
    for (const { known, floor } of keys) {
      const read = refs.get(known.key.slice(project.length + 1)) ?? null;
      const index = known.history.lastIndexOf(read);
      if (index >= 0) {
        if (index + 1 < floor.revision) this.#note(known, null, String(read), floor);
        else known.seenRevision = Math.max(known.seenRevision, index + 1);
      } else if (!floor.busy && !known.busy && !known.abandoned) {
        // Not a state that was ever acknowledged, and none was on its way.
        this.#note(known, null, String(read), floor);
      }
    }
  }

  #note(known: Known, podId: string | null, read: string, floor: Floor): void {
    this.stale += 1;
    if (this.staleReads.length >= MAX_KEPT) return;
    const { kind, organization, key } = known;
    const expected = floor.deleted ? "deleted" : `at least revision ${floor.revision}`;
    this.staleReads.push({ kind, organization, key, podId, read, expected });
  }
}

function floorOf(known: Known): Floor {
  return {
    revision: Math.max(known.revision, known.seenRevision),
    deleted: known.state === null && known.revision > 0,
    busy: known.busy,
  };
}

/** A write of it is under way, or ended since the read began with its deletion or without an answer. */
function deletionMayHaveBegun(known: Known): boolean {
  return known.busy || known.abandoned || known.state === null;
}

function issueRevision(body: Buffer): number | null {
  try {
    const revision = (JSON.parse(body.toString("utf8")) as { revision?: unknown }).revision;
    return typeof revision === "number" ? revision : null;
  } catch {
    return null;
  }
}
