/**
 * Lines of COPY's text format, of which only two things are asked: where one ends, and which key it begins with. A
 * newline within a value is written as `\n`, so a byte 10 is the end of a line and nothing else.
 * https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2
 */
import { CleaveError } from "../../../../protocol/errors.ts";

const NEWLINE = 10;
const ESCAPES: Readonly<Record<string, string>> = {
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** The first `count` values of a line without its newline. They are not NULL. */
export function firstValues(line: Buffer, count: number): string[] {
  // Only as much as has to be read: a line may be a gigabyte.
  let end = -1;
  for (let at = 0; at < count; at++) {
    end = line.indexOf(9, end + 1);
    if (end < 0) break;
  }
  const values = line
    .toString("utf8", 0, end < 0 ? line.length : end)
    .split("\t")
    .map((value) => value.replaceAll(/\\(.)/gs, (_, escaped: string) => ESCAPES[escaped] ?? escaped));
  if (values.length !== count) throw new CleaveError("INTERNAL", "a copied line is shorter than its key");
  return values;
}

/** Remembers the beginning of a line that is not complete, so that the last complete one can be had at any time. */
export class LineCursor {
  #partial: Buffer[] = [];

  /**
   * Takes what came next. With `cut`, also says where the last complete line of everything so far ends (as an offset
   * in `chunk`) and what it is; null when none ends in this chunk.
   */
  take(chunk: Buffer, cut: boolean): { readonly end: number; readonly line: Buffer } | null {
    const last = chunk.lastIndexOf(NEWLINE);
    if (last < 0) {
      this.#partial.push(chunk);
      return null;
    }
    let found: { end: number; line: Buffer } | null = null;
    if (cut) {
      const before = last === 0 ? -1 : chunk.lastIndexOf(NEWLINE, last - 1);
      const line =
        before >= 0
          ? chunk.subarray(before + 1, last)
          : Buffer.concat([...this.#partial, chunk.subarray(0, last)]);
      found = { end: last + 1, line };
    }
    this.#partial = last + 1 < chunk.length ? [chunk.subarray(last + 1)] : [];
    return found;
  }
}
