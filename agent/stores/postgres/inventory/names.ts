/** Names as hints: which table might `noteable_id`, `orgRef` or the type `MergeRequest` mean? Never a proof. */

/** Lower case words: `mergeRequestID` and `merge_requests` become `merge request id` and `merge requests`. */
export function words(name: string): string[] {
  return name
    .replace(/([\p{Ll}\d])(\p{Lu})/gu, "$1 $2")
    .replace(/(\p{Lu}+)(\p{Lu}\p{Ll})/gu, "$1 $2")
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== "");
}

/** One word's likely singular, the same for singular and plural. */
function stem(word: string): string {
  if (/(ss|us|is)$/.test(word)) return word;
  if (/ies$/.test(word) && word.length > 4) return `${word.slice(0, -3)}y`;
  if (/(ch|sh|x|z|ss)es$/.test(word)) return word.slice(0, -2);
  if (/s$/.test(word) && word.length > 3) return word.slice(0, -1);
  return word;
}

/** A name as its words in the singular. */
export const stemmed = (name: string) => words(name).map(stem).join(" ");

/** The table's own name without its schema. */
export const bareName = (table: string) => table.slice(table.indexOf(".") + 1);

const SUFFIXES = new Set(["id", "ids", "uuid", "guid", "key", "ref", "fk", "no", "number", "code", "pk"]);

/** What a column refers to by its name: `parent_project_id` gives `parent project`, then `project`. */
export function referents(column: string): string[] {
  const parts = words(column);
  while (parts.length > 1 && SUFFIXES.has(parts.at(-1) as string)) parts.pop();
  const whole = parts.map(stem);
  return whole.map((_, from) => whole.slice(from).join(" "));
}

/** Whether a column's name may mean a table. `users` and `app_users` are both meant by `user_id`. */
export function mayMean(column: string, table: string): boolean {
  const target = stemmed(bareName(table));
  return referents(column).some((name) => name === target || target.endsWith(` ${name}`));
}

/** Whether a value of a type column may mean a table: `MergeRequest`, `Ci::Pipeline`, `merge-requests`. */
export function valueMayMean(value: string, table: string): boolean {
  const target = stemmed(bareName(table));
  const whole = stemmed(value);
  const last = stemmed(value.split(/::|[.\\/]/).at(-1) ?? value);
  return whole === target || last === target || target.endsWith(` ${whole}`) || target.endsWith(` ${last}`);
}

/** Pairs of columns that look like (type, id): the same words, then `type`, `kind` or `class`, and `id` or the like. */
export function polymorphicPairs(columns: readonly string[]): { typeColumn: string; idColumn: string }[] {
  const kinds = new Set(["type", "kind", "class", "table", "model"]);
  const byPrefix = new Map<string, string[]>();
  for (const column of columns) {
    const parts = words(column);
    if (parts.length < 2 || !SUFFIXES.has(parts.at(-1) as string)) continue;
    const prefix = parts.slice(0, -1).join(" ");
    byPrefix.set(prefix, [...(byPrefix.get(prefix) ?? []), column]);
  }
  return columns.flatMap((typeColumn) => {
    const parts = words(typeColumn);
    if (parts.length < 2 || !kinds.has(parts.at(-1) as string)) return [];
    return (byPrefix.get(parts.slice(0, -1).join(" ")) ?? []).map((idColumn) => ({ typeColumn, idColumn }));
  });
}
