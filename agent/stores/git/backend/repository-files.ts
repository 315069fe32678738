/**
 * What makes up a repository besides objects and ordinary refs, as it travels between agents and as two Pods compare it.
 * Names are bytes, so they travel as Latin-1; contents are base64.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { isCarried } from "./contents.ts";

/** Larger contents, and what comes after so much of them, travel by themselves: see `RepositoryServing.content`. */
export const INLINE = { fileBytes: 64 * 1024, allBytes: 8 * 1024 * 1024 } as const;
export const MAX_ENTRIES = 20_000;
export const MAX_SYMBOLIC_REFS = 1_000;
const MAX_SHALLOW_ROOTS = 100_000;

const CarriedPath = z.string().max(4_000).refine(isCarried, "nothing that is carried has this name");
/** Permission bits and those above them, as numbers. */
const mode = z.number().int().min(0).max(0o7777);
const owner = { uid: z.number().int().nonnegative(), gid: z.number().int().nonnegative() };
const RefName = z.string().max(1_000).refine(isRefName, "not a name of a ref");

export const RepositoryEntryFile = z.discriminatedUnion("kind", [
  /** The repository's folder (""), HEAD, `refs` and `objects`: what is in them travels otherwise. */
  z.strictObject({ kind: z.literal("place"), path: z.enum(["", "HEAD", "objects", "refs"]), mode, ...owner }),
  z.strictObject({ kind: z.literal("folder"), path: CarriedPath, mode, ...owner }),
  z.strictObject({
    kind: z.literal("file"),
    path: CarriedPath,
    mode,
    ...owner,
    bytes: z.number().int().nonnegative(),
    sha256: z.string().length(64),
    /** Null: travels by itself. */
    content: z
      .string()
      .max(Math.ceil((INLINE.fileBytes * 4) / 3) + 4)
      .nullable(),
  }),
  /** Only below `hooks` and `custom_hooks`. */
  z.strictObject({
    kind: z.literal("link"),
    path: CarriedPath.and(z.string().regex(/^(hooks|custom_hooks)\//)),
    target: z.string().min(1).max(4_096),
  }),
]);
export type RepositoryEntryFile = z.infer<typeof RepositoryEntryFile>;
export type CarriedFile = Extract<RepositoryEntryFile, { kind: "file" }>;

export const SymbolicRef = z.strictObject({ name: RefName, target: RefName });
export type SymbolicRef = z.infer<typeof SymbolicRef>;

export const RepositoryFiles = z.strictObject({
  /** `ref: <name>` or an object id. */
  head: z.string().min(1).max(4_096),
  /** Besides HEAD, by name. */
  symbolicRefs: z.array(SymbolicRef).max(MAX_SYMBOLIC_REFS),
  /** Commits at which the history ends here; sorted. */
  shallow: z.array(z.string().regex(/^[0-9a-f]{40,64}$/)).max(MAX_SHALLOW_ROOTS),
  objectFormat: z.enum(["sha1", "sha256"]),
  /** What git's own files and folders may have at most, as `core.sharedRepository` says it: see `permissions.ts`. */
  permissions: mode,
  /** Of the folders above it, from the root on; made where they are missing. */
  parents: z.array(z.strictObject({ mode, ...owner })).max(64),
  /** By path. */
  entries: z.array(RepositoryEntryFile).max(MAX_ENTRIES),
});
export type RepositoryFiles = z.infer<typeof RepositoryFiles>;

/** As `git check-ref-format` has it, for names below `refs/`: they become paths. */
export function isRefName(name: string): boolean {
  if (!name.startsWith("refs/") || /[\u0000-\u0020\u007f~^:?*[\\]|\.\.|@\{|\.$/.test(name)) return false;
  return name.split("/").every((s) => s !== "" && !s.startsWith(".") && !s.endsWith(".lock"));
}

/** SHA-256 of each part, and HEAD itself: what two Pods compare. */
export interface FileDigests {
  readonly head: string;
  readonly symbolicRefs: string;
  readonly shallow: string;
  readonly config: string;
  readonly attributes: string;
  readonly hooks: string;
  /** All other files, and modes. */
  readonly others: string;
}

function digest(parts: readonly unknown[]): string {
  return parts.length === 0 ? "none" : createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/** What is compared of an entry: owners are numbers of one machine, and are not. */
export function comparedOf(entry: RepositoryEntryFile): readonly unknown[] {
  const { kind, path } = entry;
  if (kind === "link") return [path, kind, entry.target];
  return [path, kind, entry.mode, ...(kind === "file" ? [entry.sha256] : [])];
}

export function digestFiles(
  files: Pick<RepositoryFiles, "head" | "symbolicRefs" | "shallow" | "entries">,
): FileDigests {
  const config: unknown[] = [];
  const attributes: unknown[] = [];
  const hooks: unknown[] = [];
  const others: unknown[] = [];
  for (const entry of files.entries) {
    const { path } = entry;
    const part = /^(hooks|custom_hooks)(\/|$)/.test(path)
      ? hooks
      : path === "config"
        ? config
        : path === "info/attributes"
          ? attributes
          : others;
    part.push(comparedOf(entry));
  }
  return {
    head: files.head,
    symbolicRefs: digest(files.symbolicRefs.map(({ name, target }) => [name, target])),
    shallow: digest(files.shallow),
    config: digest(config),
    attributes: digest(attributes),
    hooks: digest(hooks),
    others: digest(others),
  };
}
