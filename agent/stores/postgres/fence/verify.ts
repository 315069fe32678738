/** Is the guard whole? Reads only, so it works on a standby too. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Finding } from "../../../../protocol/evidence.ts";
import type { PodId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Queryable } from "../server/queryable.ts";
import { absentNames } from "./absent-names.ts";
import { readCatalog, readKeys } from "./catalog.ts";
import { guardFunctions, settingsOf } from "./guard-functions.ts";
import { EVENT_TRIGGERS } from "./names.ts";
import { ambiguousOwners } from "./owner-types.ts";
import { expectedTriggers, findTriggerFaults } from "./triggers.ts";

function missing(message: string): Finding {
  return { store: "postgres", severity: "error", code: "POSTGRES_GUARD_MISSING", message };
}

function invalid(message: string): Finding {
  return { store: "postgres", severity: "error", code: "OWNERSHIP_RULE_INVALID", message };
}

/**
 * Everything of the guard that is missing, disabled or altered: triggers, functions, event triggers.
 * Empty when the guard is exactly what the rules ask for.
 */
export async function verifyGuard(db: Queryable, ownership: Ownership): Promise<Finding[]> {
  try {
    const { rows } = await db.query<{ present: boolean; compared: boolean }>(
      "SELECT pg_catalog.to_regclass('cleave.pod') IS NOT NULL AS present, pg_catalog.to_regclass('cleave.compared') IS NOT NULL AS compared",
    );
    if (!rows[0]?.present) return [missing("the write guard is not installed")];
    // Of an earlier version.
    if (!rows[0].compared) return [missing("the table cleave.compared is missing")];
    // What is missing besides follows from it.
    const absent = await absentNames(db, ownership);
    if (absent.length > 0) return absent.slice(0, 5).map(invalid);
    const catalog = await readCatalog(db, ownership);
    const faults = await findTriggerFaults(db, expectedTriggers(ownership, catalog));
    return [
      ...(await verifyFunctions(db, ownership)),
      ...(await verifyEventTriggers(db)),
      ...(await verifyOwnerTypes(db, ownership)),
      ...faults.map(({ trigger, fault }) =>
        missing(`${trigger.relation.name}: its ${trigger.kind} guard is ${fault}`),
      ),
    ];
  } catch (error) {
    if (!(error instanceof CleaveError)) throw error;
    return [{ store: "postgres", severity: "error", code: error.code, message: error.message }];
  }
}

/** A column's type may have been altered since the guard was installed. */
async function verifyOwnerTypes(db: Queryable, ownership: Ownership): Promise<Finding[]> {
  const ambiguous = await ambiguousOwners(db, ownership);
  return ambiguous.map(invalid);
}

async function verifyFunctions(db: Queryable, ownership: Ownership): Promise<Finding[]> {
  const { rows } = await db.query<{
    name: string;
    body: string;
    definer: boolean;
    settings: string[] | null;
    super: boolean;
    open: boolean;
  }>(
    `SELECT p.proname AS name, p.prosrc AS body, p.prosecdef AS definer, p.proconfig AS settings, r.rolsuper AS super,
       pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE') AS open
     FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
     WHERE n.nspname = 'cleave'`,
  );
  const present = new Map(rows.map((row) => [row.name, row]));
  const { rows: pods } = await db.query<{ default_pod_id: PodId }>("SELECT default_pod_id FROM cleave.pod");
  const defaultPodId = pods[0]?.default_pod_id;
  if (defaultPodId === undefined) return [missing("the table cleave.pod is empty")];
  return guardFunctions(ownership, defaultPodId, await readKeys(db)).flatMap((expected) => {
    const name = /^cleave\.(\w+)\(/.exec(expected.signature)?.[1] ?? "";
    const found = present.get(name);
    if (!found) return [missing(`the function cleave.${name} is missing`)];
    const same =
      found.body === expected.body &&
      found.definer === expected.definer &&
      found.super &&
      found.open === (expected.returns === "trigger") &&
      (found.settings ?? []).join("; ").toLowerCase() === settingsOf(expected).join("; ").toLowerCase();
    return same
      ? []
      : [missing(`the function cleave.${name} was altered, or the rules changed since it was made`)];
  });
}

async function verifyEventTriggers(db: Queryable): Promise<Finding[]> {
  const { rows } = await db.query<{ name: string }>(
    `SELECT e.evtname AS name FROM pg_catalog.pg_event_trigger e JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid
       JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
     WHERE e.evtenabled = 'A' AND n.nspname = 'cleave'`,
  );
  const present = new Set(rows.map((row) => row.name));
  return EVENT_TRIGGERS.filter(({ name }) => !present.has(name)).map(({ name }) =>
    missing(`the event trigger ${name} is missing or disabled`),
  );
}
