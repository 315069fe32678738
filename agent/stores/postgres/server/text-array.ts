/**
 * Arrays of texts as parameters, in PostgreSQL's binary format (array_recv in arrayfuncs.c): nothing has to be quoted, so a
 * value of any size and content costs its bytes and no more. As text, one of 60 MB that is all quotes was more matches
 * than a regular expression of JavaScript may have.
 */

const TEXT_OID = 25;
const HEADER_BYTES = 20;
const NULL_LENGTH = -1;

/** For a parameter of the type `pg_catalog.text[]`; undefined counts as NULL. */
export function textArray(values: readonly (string | null | undefined)[]): Buffer {
  if (values.length === 0) return header(0, false, 0).subarray(0, 12);
  const lengths = values.map((value) =>
    value === null || value === undefined ? NULL_LENGTH : Buffer.byteLength(value),
  );
  const bytes = lengths.reduce((sum, length) => sum + 4 + Math.max(0, length), HEADER_BYTES);
  const buffer = Buffer.allocUnsafe(bytes);
  header(1, lengths.includes(NULL_LENGTH), values.length).copy(buffer);
  let at = HEADER_BYTES;
  for (const [index, value] of values.entries()) {
    at = buffer.writeInt32BE(lengths[index] as number, at);
    if (typeof value === "string") at += buffer.write(value, at);
  }
  return buffer;
}

function header(dimensions: number, hasNulls: boolean, count: number): Buffer {
  const buffer = Buffer.alloc(HEADER_BYTES);
  buffer.writeInt32BE(dimensions, 0);
  buffer.writeInt32BE(hasNulls ? 1 : 0, 4);
  buffer.writeInt32BE(TEXT_OID, 8);
  buffer.writeInt32BE(count, 12);
  buffer.writeInt32BE(1, 16);
  return buffer;
}
