/** SQL writers: issues are created, updated and deleted in every isolation level, each by its own client. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "./client.ts";
import type { Knowledge } from "./knowledge.ts";
import type { SeededRandom } from "./random.ts";

/** Mostly the default, as in real applications: the stricter ones often have to be tried again. */
export const ISOLATION_LEVELS = [
  "read committed",
  "repeatable read",
  "read committed",
  "serializable",
  "read committed",
] as const;

export class IssueWriter {
  readonly #client: Client;
  readonly #knowledge: Knowledge;
  readonly #random: SeededRandom;
  readonly #run: string;
  #created = 0;

  /** @param run makes write ids differ between runs with different seeds */
  constructor(client: Client, knowledge: Knowledge, random: SeededRandom, run: string) {
    this.#client = client;
    this.#knowledge = knowledge;
    this.#random = random;
    this.#run = run;
  }

  /** One write of one organization: mostly new issues, some updates, a few deletions. */
  async write(organization: string): Promise<void> {
    const choice = this.#random.next();
    const own = this.#knowledge.writable("issue", organization);
    if (choice < 0.55 || own.length === 0) return await this.create(organization);
    const known = this.#random.pick(own);
    const revision = known.revision + 1;
    if (choice < 0.87) {
      const title = titleOf(known.key, revision);
      await this.#client.write(known, title, {
        method: "PUT",
        path: issuePath(organization, known.key),
        body: JSON.stringify({ revision, title }),
        contentType: "application/json",
        accepts: [200, 204],
      });
      return;
    }
    await this.#client.write(known, null, {
      method: "DELETE",
      path: issuePath(organization, known.key),
      accepts: [200, 204],
      acceptsAgain: [404, 410],
    });
  }

  /** A new issue; with `holdOpenMs` its transaction stays open that long between its write and its commit. */
  async create(organization: string, holdOpenMs?: number): Promise<void> {
    this.#created += 1;
    const writeId = `${this.#run}-${this.#created}`;
    const isolation = ISOLATION_LEVELS[this.#created % ISOLATION_LEVELS.length];
    const known = this.#knowledge.add("issue", organization, writeId);
    const title = titleOf(writeId, 1);
    await this.#client.write(known, title, {
      method: "POST",
      path: `/organizations/${encodeURIComponent(organization)}/issues`,
      body: JSON.stringify({
        writeId,
        title,
        isolation,
        // A read before the write gives the transaction its snapshot early, where a fence has to stop it anyway.
        ...(isolation === "read committed" ? {} : { readFirst: true }),
        ...(holdOpenMs === undefined ? {} : { holdOpenMs }),
      }),
      contentType: "application/json",
      accepts: [200, 201],
      long: holdOpenMs !== undefined,
    });
  }

  /** Keeps one transaction open at all times, of one organization after another, until `signal` aborts. */
  async holdTransactionsOpen(organizations: readonly string[], signal: AbortSignal): Promise<void> {
    for (let turn = 0; !signal.aborted; turn += 1) {
      await this.create(
        organizations[turn % organizations.length] as string,
        2_000 + this.#random.below(2_000),
      );
      if (!signal.aborted) await sleep(1);
    }
  }
}

export function issuePath(organization: string, writeId: string): string {
  return `/organizations/${encodeURIComponent(organization)}/issues/${encodeURIComponent(writeId)}`;
}

function titleOf(writeId: string, revision: number): string {
  return `Issue ${writeId}, revision ${revision}`;
}
