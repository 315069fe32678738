/** Says what differs between two Pods: the first ten, on which side, with both values, and how many more there are. */
import type { PodId } from "../../../../protocol/ids.ts";

export const NAMED_DIFFERENCES = 10;
const NAME_LENGTH = 120;
const VALUE_LENGTH = 80;

export interface Difference {
  readonly name: string;
  /** Null: it is not there. */
  readonly theirs: string | null;
  readonly own: string | null;
}

/** Empty without any. At most about 1,900 characters, which fits into a problem. */
export function differencesText(
  found: readonly Difference[],
  more: number,
  { source, own }: { readonly source: PodId; readonly own: PodId },
): string {
  const named: string[] = [];
  let length = 0;
  for (const { name, theirs, own: ours } of found.slice(0, NAMED_DIFFERENCES)) {
    const line = `${short(name, NAME_LENGTH)}: ${source} has ${value(theirs)}, ${own} has ${value(ours)}`;
    if (length + line.length > 1_800) break;
    length += line.length + 2;
    named.push(line);
  }
  const rest = more + found.length - named.length;
  return [...named, ...(rest > 0 ? [`and ${rest} more`] : [])].join("; ");
}

function value(text: string | null): string {
  return text === null ? "none" : short(text, VALUE_LENGTH);
}

function short(text: string, length: number): string {
  const printable = text.replace(/[\u0000-\u001f\u007f]/g, "?");
  return printable.length <= length ? printable : `${printable.slice(0, length - 1)}…`;
}
