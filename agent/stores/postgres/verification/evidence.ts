/** What source and target of a move say of the fence: equal exactly when they hold the same. */
import { createHash } from "node:crypto";
import type { Evidence } from "../../../../protocol/evidence.ts";
import type { Moving } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { referenceLines } from "./references.ts";
import { linesOfTouched, type TouchedRow } from "./rows.ts";

interface Marker {
  readonly token: string;
  readonly verified: string | null;
  readonly generation: string | number | null;
}

/**
 * Made page by page of what was touched since the last comparison, with the rows of nobody alone that it refers to. Both Pods
 * read the same pages, of the source's one list.
 */
export class MoveDigest {
  readonly #db: Database;
  readonly #moving: Moving;
  readonly #hash = createHash("sha256");
  #rows = 0;

  constructor(db: Database, moving: Moving) {
    this.#db = db;
    this.#moving = moving;
  }

  /** `known`: see `referenceLines`. */
  async add(touched: readonly TouchedRow[], known: ReadonlySet<string> | null = null): Promise<void> {
    const lines = await linesOfTouched(this.#db, this.#moving, touched);
    const further = await referenceLines(this.#db, this.#moving, touched, known);
    this.#rows += lines.length;
    this.#hash.update([...lines.sort(), "", ...further.sort(), "", ""].join("\n"));
  }

  /**
   * The marker's token says that the target applied everything; its snapshot, that everything up to there was compared, at the
   * generation of the schema that it names; and the digest is of what was added. To be called once.
   */
  evidence({ token, verified, generation }: Marker): Pick<Evidence, "digest" | "details"> {
    const digest = this.#hash.digest("hex").slice(0, 32);
    return {
      digest: `${token}/${verified ?? "never compared"}/${generation}/${this.#rows}/${digest}`,
      details: { comparedAtTheFence: this.#rows },
    };
  }
}
