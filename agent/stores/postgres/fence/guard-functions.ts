/** The generated functions: one row guard per owned table, and the guards that need no table's rule. Pure. */
import type { PodId } from "../../../../protocol/ids.ts";
import type { Ownership, TableRule } from "../../../../protocol/ownership.ts";
import { IDENTITY_FUNCTIONS, RELATION } from "../replication/replica-identity.ts";
import { admissionFunctions } from "./admission.ts";
import { CANONICAL_TEXT_FUNCTIONS, canonicalText } from "./canonical-text.ts";
import { type Cascade, keepDormant } from "./cascades.ts";
import { changed as changedColumns, type Equalities, sqlOf } from "./equality.ts";
import { NAMES_FUNCTIONS } from "./known-names.ts";
import { guardFunctionName, literal, ROW_TRIGGER, TRUNCATE_TRIGGER } from "./names.ts";
import {
  isOwned,
  ownerColumns,
  ownerExpression,
  referencedKeys,
  rememberDeparted,
  rememberMoved,
  rulesOf,
} from "./owner-sql.ts";
import { isTemporary, JOURNAL_FUNCTIONS, NOTE_TRUNCATE, ONLY_TEMPORARY_DROPPED } from "./schema-journal.ts";

/** A function of the guard, as it has to be in the database. */
export interface GuardFunction {
  readonly signature: string;
  readonly returns: string;
  readonly body: string;
  /** Called on behalf of anybody who writes, so it acts as its owner; the others are called by these. */
  readonly definer: boolean;
  /**
   * Called for every row. A search_path of its own would cost more than all the rest of it (PostgreSQL looks every
   * schema up again, on the way in and out), so every name, type and operator in it says its schema instead.
   */
  readonly hot?: true;
  /** Settings of its own, as in pg_proc.proconfig; else its search_path alone. */
  readonly settings?: readonly string[];
}

/** The guard of one kind of table; `function` is called without arguments. */
export interface TableGuard {
  readonly table: string;
  readonly rowFunction: string;
  readonly truncateFunction: string;
}

/** SQL that notes a row of an organization that is being moved: see `admit`. Without a key it cannot be moved. */
function note(
  equalities: Equalities,
  table: string,
  key: readonly string[],
  row: string,
  owner: string,
): string {
  if (key.length === 0) return "";
  const values = key.map((column) => canonicalText(sqlOf(equalities, { table, column, row }))).join(", ");
  return `INSERT INTO cleave.touched (migration_id, "table", key) SELECT route.migration_id, ${literal(table)}, ARRAY[${values}] FROM cleave.route WHERE route.organization_id OPERATOR(pg_catalog.=) ${owner};`;
}

function ownedBody(
  ownership: Ownership,
  table: string,
  columns: readonly string[],
  { identities, equalities, cascades }: Keys,
): string {
  const identity = identities.get(table) ?? [];
  const changed = (these: readonly string[]) => changedColumns(equalities, table, these);
  const owner = (row: "NEW" | "OLD") =>
    ownerExpression(ownership, table, row, "among the departed", equalities);
  const keys = referencedKeys(ownership, table);
  const remember = (key: readonly string[]) =>
    rememberDeparted(equalities, table, key, "OLD", "owner_before");
  const onDelete = keys.map((key) => `    IF owner_before IS NOT NULL THEN ${remember(key)} END IF;`);
  const onRename = keys.map(
    (key) => `  IF (${changed(key)}) AND owner_before IS NOT NULL THEN ${remember(key)} END IF;`,
  );
  // The first expressions decide nearly every call, and PostgreSQL prepares each expression anew in every transaction.
  return `
DECLARE
  owner_before pg_catalog.text;
  owner_after pg_catalog.text;
  admitted pg_catalog.bool;
BEGIN${keepDormant(ownership, equalities, cascades, table, owner("OLD"))}
  IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
    IF NOT (${changed([...new Set([...columns, ...keys.flat()])])}) AND cleave.admit(${owner("OLD")}, ${literal(table)}, true) THEN
      RETURN NEW;
    END IF;
  ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
    IF NOT cleave.admit(${owner("NEW")}, ${literal(table)}, false) THEN
      owner_after := ${owner("NEW")};
      ${note(equalities, table, identity, "NEW", "owner_after")}
    END IF;
    RETURN NEW;
  END IF;
  owner_before := ${owner("OLD")};
  admitted := cleave.admit(owner_before, ${literal(table)}, true);
  IF admitted IS NULL THEN
    RETURN NULL;
  END IF;
  IF NOT admitted THEN
    ${note(equalities, table, identity, "OLD", "owner_before")}
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
      IF ${identity.length > 0 ? changed(identity) : "false"} THEN
        ${note(equalities, table, identity, "NEW", "owner_before")}
      END IF;
    END IF;
  END IF;
  IF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
${onDelete.join("\n")}
    RETURN OLD;
  END IF;
  IF ${changed(columns)} THEN
    owner_after := ${owner("NEW")};
    IF NOT COALESCE(owner_after OPERATOR(pg_catalog.=) owner_before, false) THEN
      IF NOT cleave.admit(owner_after, ${literal(table)}, false) THEN
        ${note(equalities, table, identity, "NEW", "owner_after")}
      END IF;
${keys.length > 0 ? `      ${rememberMoved("owner_after")}` : ""}
    END IF;
  END IF;
${onRename.join("\n")}
  RETURN NEW;
END`;
}

const rowResult = "  IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;\n  RETURN NEW;";
const tableName = "TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME";

const OWN_TRIGGERS = `${literal(ROW_TRIGGER)}, ${literal(TRUNCATE_TRIGGER)}`;
/** SQL: whoever is connected is no superuser. Owners of tables may drop and replace all triggers of theirs, otherwise. */
const BY_ANYBODY =
  "NOT COALESCE((SELECT session.rolsuper FROM pg_catalog.pg_roles AS session WHERE session.rolname = SESSION_USER), false)";

const FIXED: readonly GuardFunction[] = [
  {
    signature: "cleave.refuse_own_trigger()",
    returns: "void",
    definer: false,
    body: `
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'the triggers of the write guard are Cleave''s own',
    HINT = 'They go when the last migration is over.';
END`,
  },
  {
    signature: "cleave.guard_cluster_wide()",
    returns: "trigger",
    definer: true,
    body: `\nBEGIN\n  PERFORM cleave.admit_cluster_wide(${tableName});\n${rowResult}\nEND`,
  },
  {
    signature: "cleave.guard_shared()",
    returns: "trigger",
    definer: true,
    body: `
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM cleave.admit_shared(${tableName});
  ELSE
    PERFORM cleave.admit_cluster_wide(${tableName});
  END IF;
${rowResult}
END`,
  },
  {
    signature: "cleave.guard_truncate()",
    returns: "trigger",
    definer: true,
    body: `\nBEGIN\n  PERFORM cleave.admit_for_all('TRUNCATE of ' || ${tableName});\n  ${NOTE_TRUNCATE}\n  RETURN NULL;\nEND`,
  },
  {
    signature: "cleave.guard_truncate_cluster_wide()",
    returns: "trigger",
    definer: true,
    body: `\nBEGIN\n  PERFORM cleave.admit_cluster_wide('TRUNCATE of ' || ${tableName});\n  RETURN NULL;\nEND`,
  },
  {
    signature: "cleave.guard_ddl()",
    returns: "event_trigger",
    definer: true,
    body: `
DECLARE
  relation record;
BEGIN
  -- Temporary objects are a session's own and no organization's.
  IF EXISTS (SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() AS command CROSS JOIN LATERAL (SELECT ${RELATION} AS oid) AS about
      WHERE NOT ${isTemporary("command", "about.oid")}) THEN
    PERFORM cleave.admit_ddl(TG_TAG);
  END IF;
  -- A new partition inherits its parent's row guard, but not its guard against TRUNCATE.
  FOR relation IN
    SELECT DISTINCT member.relid, guarded.tgfoid FROM pg_catalog.pg_event_trigger_ddl_commands() AS changed
      CROSS JOIN LATERAL pg_catalog.pg_partition_tree(pg_catalog.pg_partition_root(changed.objid::pg_catalog.regclass)) AS member
      JOIN pg_catalog.pg_trigger AS guarded
        ON guarded.tgrelid = pg_catalog.pg_partition_root(changed.objid::pg_catalog.regclass) AND guarded.tgname = ${literal(TRUNCATE_TRIGGER)}
    WHERE changed.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND changed.object_type = 'table'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS present
        WHERE present.tgrelid = member.relid AND present.tgname = ${literal(TRUNCATE_TRIGGER)})
  LOOP
    -- The commands below fire this trigger again, which may have been faster.
    CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger AS present
      WHERE present.tgrelid = relation.relid AND present.tgname = ${literal(TRUNCATE_TRIGGER)});
    EXECUTE pg_catalog.format('CREATE TRIGGER %I BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s()',
      ${literal(TRUNCATE_TRIGGER)}, relation.relid, relation.tgfoid::pg_catalog.regproc);
    EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation.relid, ${literal(TRUNCATE_TRIGGER)});
  END LOOP;
  IF ${BY_ANYBODY} AND EXISTS (
    SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() AS changed
      JOIN pg_catalog.pg_trigger AS guarded ON guarded.oid = changed.objid AND changed.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
      JOIN pg_catalog.pg_proc AS called ON called.oid = guarded.tgfoid
     WHERE (guarded.tgname IN (${OWN_TRIGGERS})) <> (called.pronamespace = 'cleave'::pg_catalog.regnamespace)
  ) THEN
    PERFORM cleave.refuse_own_trigger();
  END IF;
  -- An owner may disable all of a table's triggers, to load rows say: the guard's stay.
  FOR relation IN
    SELECT guarded.tgrelid::pg_catalog.regclass AS relid, guarded.tgname FROM pg_catalog.pg_trigger AS guarded
     WHERE guarded.tgname IN (${OWN_TRIGGERS}) AND guarded.tgenabled <> 'A'
       AND TG_TAG = 'ALTER TABLE'
  LOOP
    CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger AS present
      WHERE present.tgrelid = relation.relid AND present.tgname = relation.tgname AND present.tgenabled = 'A');
    EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation.relid, relation.tgname);
  END LOOP;
END`,
  },
  {
    signature: "cleave.guard_start()",
    returns: "event_trigger",
    definer: true,
    body: `\nBEGIN\n  PERFORM cleave.admit_ddl(TG_TAG);\nEND`,
  },
  {
    signature: "cleave.guard_drop()",
    returns: "event_trigger",
    definer: true,
    body: `
BEGIN
  -- With its table it goes without a word.
  IF ${BY_ANYBODY} AND EXISTS (SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() AS dropped
      WHERE dropped.original AND dropped.object_type = 'trigger' AND dropped.address_names[pg_catalog.array_upper(dropped.address_names, 1)] IN (${OWN_TRIGGERS})) THEN
    PERFORM cleave.refuse_own_trigger();
  END IF;
  IF NOT (${ONLY_TEMPORARY_DROPPED}) THEN
    PERFORM cleave.admit_ddl(TG_TAG);
  END IF;
END`,
  },
];

/** What the guard knows of columns, from the catalog. */
export interface Keys {
  /** The columns that tell a table's rows apart, by the table's name; empty where nothing does. */
  readonly identities: ReadonlyMap<string, readonly string[]>;
  readonly equalities: Equalities;
  readonly cascades: readonly Cascade[];
}

/** The row guard of each owned table, by its function's name. @throws CleaveError OWNERSHIP_RULE_INVALID */
export function rowFunctions(
  ownership: Ownership,
  keys: Keys,
): readonly { readonly name: string; readonly body: string }[] {
  return [...rulesOf(ownership)].flatMap(([table, rule]) =>
    isOwned(rule)
      ? [{ name: guardFunctionName(table), body: ownedBody(ownership, table, ownerColumns(rule), keys) }]
      : [],
  );
}

/** Every function of the guard for these rules. @throws CleaveError OWNERSHIP_RULE_INVALID */
export function guardFunctions(
  ownership: Ownership,
  defaultPodId: PodId,
  keys: Keys,
): readonly GuardFunction[] {
  // As known-names.ts makes them again.
  const perTable = rowFunctions(ownership, keys).map(
    ({ name, body }): GuardFunction => ({
      signature: `cleave.${name}()`,
      returns: "trigger",
      definer: true,
      hot: true,
      body,
    }),
  );
  return [
    ...CANONICAL_TEXT_FUNCTIONS,
    ...admissionFunctions(defaultPodId).map((one) => ({ ...one, definer: false })),
    ...FIXED,
    ...IDENTITY_FUNCTIONS,
    ...JOURNAL_FUNCTIONS,
    ...NAMES_FUNCTIONS,
    ...perTable,
  ];
}

/** The settings of a function as in pg_proc.proconfig: without any a writer could put operators of his own first. */
export function settingsOf(guard: GuardFunction): readonly string[] {
  return guard.settings ?? (guard.hot ? [] : ["search_path=pg_catalog, pg_temp"]);
}

/** SQL that makes the function, or makes it again as it has to be. */
export function createFunction(guard: GuardFunction): string {
  const own = settingsOf(guard).map((setting) => {
    const [name, value = ""] = setting.split("=");
    return `SET ${name} = ${value.split(", ").map(literal).join(", ")}`;
  });
  const settings = [...(guard.definer ? ["SECURITY DEFINER"] : []), ...own].join(" ");
  // Who adds a partition has to be allowed to execute what its trigger calls. Naming it needs more: the schema is closed.
  const access =
    guard.returns === "trigger"
      ? `GRANT EXECUTE ON FUNCTION ${guard.signature} TO PUBLIC;`
      : `REVOKE ALL ON FUNCTION ${guard.signature} FROM PUBLIC;`;
  return `CREATE OR REPLACE FUNCTION ${guard.signature} RETURNS ${guard.returns} LANGUAGE plpgsql VOLATILE ${settings} AS ${literal(guard.body)};
${access}`;
}

/** Which guard a table of this rule gets; none for a Pod's own tables. */
export function tableGuard(table: string, rule: TableRule): TableGuard | null {
  if ("local" in rule) return null;
  if (isOwned(rule))
    return { table, rowFunction: guardFunctionName(table), truncateFunction: "guard_truncate" };
  return {
    table,
    rowFunction: "shared" in rule ? "guard_shared" : "guard_cluster_wide",
    truncateFunction: "guard_truncate_cluster_wide",
  };
}
