/** What source and target of a move say of the fence: equal exactly when they hold the same. */
import type { Evidence } from "../../../../protocol/evidence.ts";
import type { Moving } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { referenceLines } from "./references.ts";
import { digestOfTouched, type TouchedRow } from "./rows.ts";

/**
 * The marker's token says that the target applied everything; its snapshot, that everything up to there was compared,
 * at the generation of the schema that it names; and the digest is of what was touched since, with the rows of nobody alone that it refers to. `known`: see
 * `referenceLines`.
 */
export async function moveEvidence(
  db: Database,
  moving: Moving,
  marker: {
    readonly token: string;
    readonly verified: string | null;
    readonly generation: string | number | null;
  },
  touched: readonly TouchedRow[],
  known: ReadonlySet<string> | null = null,
): Promise<Pick<Evidence, "digest" | "details">> {
  const { rows, digest } = await digestOfTouched(
    db,
    moving,
    touched,
    await referenceLines(db, moving, touched, known),
  );
  return {
    digest: `${marker.token}/${marker.verified ?? "never compared"}/${marker.generation}/${rows}/${digest}`,
    details: { comparedAtTheFence: rows },
  };
}
