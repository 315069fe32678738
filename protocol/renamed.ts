/**
 * Words of version 1 that have another name now, for what is read: logs, reports and plans that were written before.
 * Nothing is written with them. A process that knows the old ones alone stands still at the new ones and says so
 * (rule 13), because what has a new name has a new version or type too.
 */

/** Of settings, events and store statuses. */
const FIELDS: ReadonlyMap<string, string> = new Map([
  ["wayBack", "reverseReplication"],
  ["despiteWayBack", "despiteReverseReplication"],
]);
const EVENT_TYPES: ReadonlyMap<string, string> = new Map([["WayBackGivenUp", "ReverseReplicationGivenUp"]]);
/** Events whose fields were renamed, and so are of version 2 now. */
const RENAMED_INSIDE = new Set(["MigrationPlanned", "MovePlanned", "RollbackPlanned", "RemovalCheckStarted"]);

type Fields = Record<string, unknown>;
const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** What is said by both names keeps both, so that neither is taken for the other: the schema knows the new one alone. */
function renameIn(value: unknown): unknown {
  if (!isFields(value)) return value;
  const nameOf = (name: string) => {
    const renamed = FIELDS.get(name);
    return renamed === undefined || Object.hasOwn(value, renamed) ? name : renamed;
  };
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [nameOf(name), inner]));
}

/** Settings as they are named now; whatever else it is comes back as it was, for the schema to refuse. */
export function renamedSettings(settings: unknown): unknown {
  if (!isFields(settings) || !isFields(settings["retention"])) return settings;
  return { ...settings, retention: renameIn(settings["retention"]) };
}

/** An event of any version → the newest version that says the same. */
export function renamedEvent<T extends { readonly type: string; readonly v: number }>(event: T): T {
  if (event.v !== 1) return event;
  const type = EVENT_TYPES.get(event.type);
  if (type !== undefined) return { ...event, type };
  if (!RENAMED_INSIDE.has(event.type)) return event;
  const renamed = renameIn(event) as T & Fields;
  return { ...renamed, v: 2, ...("settings" in event && { settings: renamedSettings(event.settings) }) };
}

/** A report of version 1 → version 2. */
export function renamedReport(report: unknown): unknown {
  if (!isFields(report) || report["v"] !== 1 || !isFields(report["migrations"])) return report;
  const migrations = Object.entries(report["migrations"]).map(([id, migration]) => {
    if (!isFields(migration) || !isFields(migration["stores"])) return [id, migration];
    const stores = Object.entries(migration["stores"]).map(([name, status]) => [name, renameIn(status)]);
    return [id, { ...migration, stores: Object.fromEntries(stores) }];
  });
  return { ...report, v: 2, migrations: Object.fromEntries(migrations) };
}
