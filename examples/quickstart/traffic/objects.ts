/** Object writers: small files are written, overwritten and deleted. The content says which revision it is. */
import { createHash } from "node:crypto";
import type { Client } from "./client.ts";
import type { Knowledge } from "./knowledge.ts";
import type { SeededRandom } from "./random.ts";

export class ObjectWriter {
  readonly #client: Client;
  readonly #knowledge: Knowledge;
  readonly #random: SeededRandom;
  readonly #run: string;
  #created = 0;

  constructor(client: Client, knowledge: Knowledge, random: SeededRandom, run: string) {
    this.#client = client;
    this.#knowledge = knowledge;
    this.#random = random;
    this.#run = run;
  }

  async write(organization: string): Promise<void> {
    const choice = this.#random.next();
    const own = this.#knowledge.writable("object", organization);
    if (choice >= 0.85 && own.length > 0) {
      const known = this.#random.pick(own);
      await this.#client.write(known, null, {
        method: "DELETE",
        path: objectPath(organization, known.key),
        accepts: [200, 204],
        acceptsAgain: [404, 410],
      });
      return;
    }
    const known = choice < 0.5 || own.length === 0 ? this.#create(organization) : this.#random.pick(own);
    const content = this.#content(known.key, known.revision + 1);
    await this.#client.write(known, createHash("sha256").update(content).digest("hex"), {
      method: "PUT",
      path: objectPath(organization, known.key),
      body: content,
      contentType: "application/octet-stream",
      accepts: [200, 201, 204],
    });
  }

  #create(organization: string) {
    this.#created += 1;
    return this.#knowledge.add("object", organization, `traffic/${this.#run}-${this.#created}`);
  }

  #content(key: string, revision: number): Buffer {
    const filler = Buffer.alloc(100 + this.#random.below(8_000), this.#random.below(256));
    return Buffer.concat([Buffer.from(`${revision} ${key}\n`), filler]);
  }
}

/** The revision that a content says it is, or null for a content that this traffic did not write. */
export function revisionOf(content: Buffer): number | null {
  const revision = /^(\d+) /.exec(content.subarray(0, 20).toString("latin1"))?.[1];
  return revision === undefined ? null : Number(revision);
}

export function objectPath(organization: string, name: string): string {
  return `/organizations/${encodeURIComponent(organization)}/objects/${name.split("/").map(encodeURIComponent).join("/")}`;
}
