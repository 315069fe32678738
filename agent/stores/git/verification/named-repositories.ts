/** Repositories that the database names, against those that are there: a root that is not whole lacks some. */
import picomatch from "picomatch";
import type { Finding } from "../../../../protocol/evidence.ts";
import type { GitConfig } from "../config.ts";
import { finding } from "../finding.ts";
import { listed } from "../inventory/absence.ts";

/**
 * Empty when all that are named are there, but for those that the configuration accepts as missing. When none is there it is
 * an error, whatever the configuration says: what is there is not what belongs to this database.
 */
export function namedAndMissing(
  named: Iterable<string>,
  there: ReadonlySet<string>,
  { missing: severity, acceptMissing }: Pick<GitConfig, "missing" | "acceptMissing">,
): Finding[] {
  const accepted = acceptMissing.map((pattern) => picomatch(pattern, { dot: true }));
  const expected = [...named].filter((path) => !accepted.some((match) => match(path)));
  const missing = expected.filter((path) => !there.has(path));
  if (missing.length === 0) return [];
  const none = missing.length === expected.length;
  const message = `of ${expected.length} repositories that the database names, ${none ? "none is there: it names " : ""}${listed(missing)} not there`;
  return [finding("REPOSITORY_MISSING", message, none || severity === "refuse" ? "error" : "warning")];
}
