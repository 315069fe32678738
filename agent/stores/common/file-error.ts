/** What a file system's refusal means for an operator, by its code or by the words of a program that was refused. */
import type { ErrorCode } from "../../../protocol/errors.ts";

type FileErrorCode = ErrorCode & ("DISK_FULL" | "DISK_FAILED" | "FILE_PERMISSION");

const FULL = ["ENOSPC", "EDQUOT"];
/** The medium, its connection, or the server that it is on. */
const FAILED = ["EIO", "ENXIO", "ENODEV", "ESTALE", "EUCLEAN"];
const REFUSED = ["EACCES", "EPERM", "EROFS"];

/** Null when it says neither that there is no room, nor that the disk fails, nor that this process may not. */
export function codeOfFileError(error: unknown): FileErrorCode | null {
  const code = (error as NodeJS.ErrnoException | null)?.code ?? "";
  if (FULL.includes(code)) return "DISK_FULL";
  if (FAILED.includes(code)) return "DISK_FAILED";
  return REFUSED.includes(code) ? "FILE_PERMISSION" : null;
}

/** The same of what a program printed. What it repeats of another machine (`remote: …`) says nothing of this one. */
export function codeOfWords(words: string): FileErrorCode | null {
  const own = words.replace(/^remote: .*$/gm, "");
  if (/No space left on device|Disk quota exceeded/.test(own)) return "DISK_FULL";
  if (/Input\/output error|Stale file handle|Structure needs cleaning/.test(own)) return "DISK_FAILED";
  return /Permission denied|Operation not permitted|Read-only file system/.test(own)
    ? "FILE_PERMISSION"
    : null;
}
