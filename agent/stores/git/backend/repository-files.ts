/** What makes up a repository besides refs and objects, as it travels between agents and as two Pods compare it. */
import { createHash } from "node:crypto";
import { z } from "zod";

export const MAX_FILE_BYTES = 8 * 1024 * 1024;
export const MAX_HOOK_FILES = 1_000;

const base64 = z.string().max(Math.ceil((MAX_FILE_BYTES * 4) / 3) + 4);
/** `hooks/…` or `custom_hooks/…`; no segment that leaves them. */
const HookPath = z
  .string()
  .max(900)
  .regex(/^(hooks|custom_hooks)\/[^\u0000]+$/)
  .refine((path) => path.split("/").every((s) => s !== "" && s !== "." && s !== ".."), "leaves its folder");

/** As it travels between agents. Bytes are base64; HEAD is Latin-1, since ref names are bytes. */
export const RepositoryFiles = z.strictObject({
  head: z.string().min(1).max(4_096),
  config: base64,
  attributes: base64.nullable(),
  hooks: z
    .array(
      z.union([
        z.strictObject({ path: HookPath, executable: z.boolean(), content: base64 }),
        z.strictObject({ path: HookPath, link: z.string().min(1).max(4_096) }),
      ]),
    )
    .max(MAX_HOOK_FILES),
});
export type RepositoryFiles = z.infer<typeof RepositoryFiles>;
export type HookFile = RepositoryFiles["hooks"][number];

/** SHA-256 of each part, and HEAD itself: what two Pods compare. */
export interface FileDigests {
  readonly head: string;
  readonly config: string;
  readonly attributes: string;
  readonly hooks: string;
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

export function digestFiles(files: RepositoryFiles): FileDigests {
  return {
    head: files.head,
    config: sha256(files.config),
    attributes: files.attributes === null ? "none" : sha256(files.attributes),
    hooks:
      files.hooks.length === 0 ? "none" : sha256(JSON.stringify(files.hooks.map((h) => Object.entries(h)))),
  };
}
