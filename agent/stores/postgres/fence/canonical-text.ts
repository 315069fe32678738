/**
 * Values as text inside the guard, where the settings are the writer's: what is noted has to read the same whoever wrote
 * it, for it is found again by others (DateStyle, TimeZone, IntervalStyle, bytea_output, extra_float_digits, lc_monetary).
 */
import { CANONICAL_SETTINGS } from "../server/session-settings.ts";

/** SQL (text) for a value in the form in which Cleave's own sessions write it. */
export const canonicalText = (value: string): string => `cleave.as_text(${value})`;

/** Of those that decide how a value is written; the others are of how it is read. */
const OF_OUTPUT = [
  "datestyle",
  "intervalstyle",
  "timezone",
  "extra_float_digits",
  "bytea_output",
  "lc_monetary",
  "quote_all_identifiers",
] as const;

/** int8, int2, int4, text, varchar, bpchar, uuid, bool: no setting changes how they are written. */
const SETTLED = "{20,21,23,25,1043,1042,2950,16}";

/** As in pg_proc.proconfig, in this order. */
const SETTINGS: readonly string[] = ["search_path=pg_catalog, pg_temp"].concat(
  OF_OUTPUT.map((name) => `${name}=${CANONICAL_SETTINGS[name]}`),
);

/** Two, because settings of its own cost a function more than all it does, and nearly every key needs none. */
export const CANONICAL_TEXT_FUNCTIONS = [
  {
    signature: "cleave.as_text(value anyelement)",
    returns: "text",
    definer: false,
    hot: true,
    body: `
BEGIN
  IF pg_catalog.pg_typeof(value)::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ('${SETTLED}'::pg_catalog.oid[]) THEN
    RETURN value::pg_catalog.text;
  END IF;
  RETURN cleave.as_text_by_settings(value);
END`,
  },
  {
    signature: "cleave.as_text_by_settings(value anyelement)",
    returns: "text",
    definer: false,
    settings: SETTINGS,
    body: "\nBEGIN\n  RETURN value::text;\nEND",
  },
] as const;
