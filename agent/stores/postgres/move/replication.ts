/** What the source of a move keeps: a publication for each target, which makes its logical slot itself when it copies. */
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { readSchemaGeneration } from "../fence/schema-journal.ts";
import { readSchema } from "../inventory/schema.ts";
import { type Moving, planMove } from "../replication/moved-tables.ts";
import { type SourceReplication, slotsOf } from "../replication/source-replication.ts";
import type { Database } from "../server/connection.ts";
import { dropSlots } from "../split/slots.ts";
import { MoveDigest } from "../verification/evidence.ts";
import { fittingKeys } from "../verification/fitting-keys.ts";
import { readTouched } from "../verification/touched.ts";
import { dropPublication, ensurePublication } from "./publication.ts";

/** `publicationsOf`: by which publications it is followed. */
export function logicalReplication(
  ownership: Ownership,
  publicationsOf: (duty: Duty) => readonly string[] = slotsOf,
): SourceReplication {
  /** Read while nothing is fenced, since reading a catalog takes as long as there are tables. */
  let planned: { readonly moving: Moving; readonly generation: number } | null = null;
  const plan = async (db: Database, duty: Duty) => {
    const generation = await readSchemaGeneration(db);
    const schema = await readSchema(db, { sizes: false });
    const organizations = [...duty.assignments.keys()] as OrganizationId[];
    return { moving: planMove(schema, schema, ownership, organizations), generation };
  };
  const prepare = async (db: Database, duty: Duty) => {
    for (const name of publicationsOf(duty)) await ensurePublication(db, name, ownership);
    planned = await plan(db, duty);
  };
  /** A slot that was never seen may not be made yet; one that was is needed until the end. */
  const seen = new Set<string>();
  return {
    logical: true,
    slots: slotsOf,
    prepare,
    renew: prepare,
    missing: (duty, present) => {
      for (const { name } of present) seen.add(name);
      return slotsOf(duty).filter((name) => seen.has(name) && !present.some((slot) => slot.name === name));
    },
    evidence: async (db, duty, _position, fence) => {
      if (planned?.generation !== fence.schemaGeneration) planned = await plan(db, duty);
      const { moving } = planned;
      const { pages } = await readTouched(db, duty.migrationId, fence.verified);
      await db.query("BEGIN READ ONLY");
      try {
        const made = new MoveDigest(db, moving);
        for await (const noted of pages) await made.add(await fittingKeys(db, moving, noted));
        const { digest, details } = made.evidence({ ...fence, generation: fence.schemaGeneration });
        return { digest, details: { ...details, lsn: fence.lsn } };
      } finally {
        await db.query("ROLLBACK").catch(() => undefined);
      }
    },
    remove: async (db, duty, clock, signal) => {
      await dropSlots(db, slotsOf(duty), clock, signal);
      for (const name of slotsOf(duty)) await dropPublication(db, name);
    },
  };
}
