/** What is wrong with a plan, in words: `assignments[1].organizations[3] (line 12): …`. */
import { isNode, type LineCounter, type Document as YamlDocument } from "yaml";
import type { z } from "zod";

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** More would hide the first ones. */
const SHOWN = 10;

/** One line per problem. `document` is where to find line numbers; null when the plan did not come as text. */
export function describeProblems(
  issues: readonly Issue[],
  document: { readonly yaml: YamlDocument; readonly lines: LineCounter } | null,
): string {
  const problems = issues.flatMap((issue) => flatten(issue, []));
  const shown = problems.slice(0, SHOWN).map(({ path, message }) => {
    const line = document === null ? null : lineOf(document.yaml, document.lines, path);
    const where = path.length === 0 ? "the plan" : written(path);
    return `${where}${line === null ? "" : ` (line ${line})`}: ${message}`;
  });
  const more = problems.length - shown.length;
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join("\n");
}

/** Of a choice only the branch that was meant is told: the one with the fewest objections. */
function flatten(issue: Issue, before: Path): { path: Path; message: string }[] {
  const path = [...before, ...issue.path];
  if (issue.code !== "invalid_union" || issue.errors.length === 0) return [{ path, message: issue.message }];
  const foreign = (branch: readonly Issue[]) =>
    branch.filter((one) => one.code === "unrecognized_keys").length * 1_000 + branch.length;
  const [meant = []] = [...issue.errors].sort((a, b) => foreign(a) - foreign(b));
  return meant.flatMap((one) => flatten(one, path));
}

function written(path: Path): string {
  return path
    .map((part, index) =>
      typeof part === "number" ? `[${part}]` : `${index === 0 ? "" : "."}${String(part)}`,
    )
    .join("");
}

/** The line of the deepest node on the path that exists: of what is missing, that is where it belongs. */
function lineOf(document: YamlDocument, lines: LineCounter, path: Path): number | null {
  for (let length = path.length; length >= 0; length -= 1) {
    const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return null;
}
