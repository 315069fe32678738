/**
 * Object keys are hostile: what is one, what is a temporary file, and how a key travels in a URL. Writers and agent have
 * this one rule, so that whatever a writer may announce is carried; two texts that differ are two keys, whatever they look
 * like (case, Unicode normalisation).
 */
import { createHash } from "node:crypto";
import { CleaveError } from "../../../../protocol/errors.ts";
import { isOfFileSystem } from "../../common/root/volume-entries.ts";

export const MAX_KEY_BYTES = 1_024;
/** The longest file name of the usual file systems. */
const MAX_SEGMENT_BYTES = 255;
/** Names in a root that begin with it are the product's own. */
export const RESERVED_PREFIX = ".cleave";
const TEMPORARY_PREFIX = ".cleave-tmp-";
const TEMPORARY_FOLDER = ".tmp";

/** Why a text is not a key; null when it is one. */
export function keyFault(key: string): string | null {
  if (key === "") return "it is empty";
  if (!key.isWellFormed()) return "it is not well-formed Unicode";
  if (Buffer.byteLength(key) > MAX_KEY_BYTES) return `it has more than ${MAX_KEY_BYTES} bytes`;
  if (/[\u0000-\u001f\u007f]/.test(key)) return "it has a control character";
  for (const segment of key.split("/")) {
    if (segment === "") return "it is absolute, ends with a slash or has two in a row";
    if (segment === "." || segment === "..") return "it has a segment `.` or `..`";
    if (Buffer.byteLength(segment) > MAX_SEGMENT_BYTES)
      return `it has a segment of more than ${MAX_SEGMENT_BYTES} bytes`;
  }
  for (const segment of key.split("/")) {
    if (segment === TEMPORARY_FOLDER)
      return `it has a segment \`${TEMPORARY_FOLDER}\`, which is where unfinished files are and is never carried`;
    if (segment.startsWith(RESERVED_PREFIX))
      return `it has a segment that begins with \`${RESERVED_PREFIX}\`, as Cleave's own files do`;
  }
  if (isOfFileSystem(key.split("/", 1)[0] ?? "")) return "its first segment is the file system's own";
  return null;
}

/** @throws CleaveError OBJECT_KEY_INVALID. */
export function assertKey(key: string): void {
  const fault = keyFault(key);
  if (fault !== null) throw new CleaveError("OBJECT_KEY_INVALID", `${quoteKey(key)} is not a key: ${fault}`);
}

/** A key in a message: escaped and bounded. */
export function quoteKey(key: string): string {
  return JSON.stringify(key.length > 200 ? `${key.slice(0, 200)}…` : key);
}

/** Files that writers and Cleave itself have under way; never objects. */
export function isTemporary(key: string): boolean {
  return key
    .split("/")
    .some((segment) => segment === TEMPORARY_FOLDER || segment.startsWith(TEMPORARY_PREFIX));
}

/** The same for the same content of the same key, so that a copy can be resumed, and other for any other. */
export function temporaryName(key: string, sha256: string): string {
  const hash = createHash("sha256").update(`${key}\0${sha256}`).digest("hex");
  return `${TEMPORARY_PREFIX}${hash.slice(0, 40)}`;
}

/** For a URL's path; a key has no segment that a URL would drop. */
export function encodeKey(key: string): string {
  return key.split("/").map(encodeURIComponent).join("/");
}

/** Order of keys as object stores list them: by UTF-8 bytes. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
