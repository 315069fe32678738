/** What leaves the machine in a bundle says nothing that opens a door. */

const REDACTED = "[redacted]";
/** Names of values that are secrets; those of files that hold one (`passwordFile`) say where, not what. */
const SECRET_NAME = /(pass(word|wd|phrase)?|secret|token|credential|api_?key|private_?key|nkey|jwt|seed)s?$/i;

/**
 * Credentials in addresses (`nats://user:secret@host`), in headers, in parameters of a query, and in libpq's
 * `password=…`, wherever they stand in a text.
 */
export function redactText(text: string): string {
  return text
    .replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s/@'"]*@/gi, `$1${REDACTED}@`)
    .replace(/\b(bearer|basic)\s+[\w.~+/=-]+/gi, `$1 ${REDACTED}`)
    .replace(
      /\b([\w-]*(?:password|passwd|passphrase|secret|token|api_?key))(\s*[=:]\s*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&'",;]+)/gi,
      `$1$2${REDACTED}`,
    );
}

/** A copy of plain data without secrets: by the names of its values, by what they look like, and those in `known`. */
export function redact(value: unknown, known: readonly string[] = []): unknown {
  if (typeof value === "string")
    return known.reduce((text, secret) => text.replaceAll(secret, REDACTED), redactText(value));
  if (Array.isArray(value)) return value.map((one) => redact(one, known));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [
      redact(name, known),
      SECRET_NAME.test(name) && isScalar(one) ? REDACTED : redact(one, known),
    ]),
  );
}

const isScalar = (value: unknown) => typeof value === "string" || typeof value === "number";
