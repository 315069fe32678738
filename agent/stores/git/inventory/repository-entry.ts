/** What the inventory knows of one repository, and what two Pods compare of it. */
import { z } from "zod";
import { OrganizationId } from "../../../../protocol/ids.ts";
import type { Owner } from "../../common/inventory/owner-lookup.ts";
import type { RepositoryState } from "../backend/backend.ts";

export const RepositoryEntry = z.strictObject({
  path: z.string().max(1_000),
  /** See `ownerText`; null when nobody knows, which never matches. */
  owner: z
    .string()
    .regex(/^(shared$|organization:)/)
    .max(300)
    .nullable(),
  deleted: z.boolean(),
  reason: z.enum(["ok", "empty", "unreadable"]),
  /** Gitaly's checksum. */
  checksum: z.string().max(40),
  /** Over all refs, also those that the checksum leaves out. */
  refs: z.string().max(64),
  head: z.string().max(4_096),
  symbolicRefs: z.string().max(64),
  shallow: z.string().max(64),
  config: z.string().max(64),
  attributes: z.string().max(64),
  hooks: z.string().max(64),
  /** All other files, and modes. */
  others: z.string().max(64),
  /** Why it is unreadable; never compared. */
  detail: z.string().max(1_000),
});
export type RepositoryEntry = z.infer<typeof RepositoryEntry>;

const ORGANIZATION = "organization:";

/** An owner as one line of text: `shared` or `organization:ID`. */
export function ownerText(owner: Owner): string {
  return owner.kind === "shared" ? "shared" : `${ORGANIZATION}${owner.organizationId}`;
}

/** Null for a text that is none. */
export function parseOwner(text: string | null): Owner | null {
  if (text === "shared") return { kind: "shared" };
  if (!text?.startsWith(ORGANIZATION)) return null;
  const id = OrganizationId.safeParse(text.slice(ORGANIZATION.length));
  return id.success ? { kind: "organization", organizationId: id.data } : null;
}

/** What has to be equal, in this order. */
const PARTS = [
  "reason",
  "checksum",
  "refs",
  "head",
  "symbolicRefs",
  "shallow",
  "config",
  "attributes",
  "hooks",
  "others",
] as const;
/** Of these, what a target writes as files. */
const FILE_PARTS = ["head", "config", "attributes", "hooks", "others"] as const;

export function readableEntry(path: string, owner: string | null, state: RepositoryState): RepositoryEntry {
  const { reason, checksum, refs, head, symbolicRefs, shallow, config, attributes, hooks, others, detail } =
    state;
  const files = { head, symbolicRefs, shallow, config, attributes, hooks, others };
  return { path, owner, deleted: false, reason, checksum, refs, ...files, detail };
}

const nothing = {
  checksum: "",
  refs: "",
  head: "",
  symbolicRefs: "",
  shallow: "",
  config: "",
  attributes: "",
  hooks: "",
  others: "",
};

export function unreadableEntry(path: string, owner: string | null, detail: string): RepositoryEntry {
  return { ...nothing, path, owner, deleted: false, reason: "unreadable", detail: detail.slice(0, 1_000) };
}

export function deletedEntry(path: string, owner: string | null): RepositoryEntry {
  return { ...nothing, path, owner, deleted: true, reason: "empty", detail: "" };
}

/** The text that has to be equal on both sides; null for what never equals anything (rule 11). */
export function comparable(entry: RepositoryEntry): string | null {
  if (entry.deleted || entry.reason === "unreadable" || entry.owner === null) return null;
  return JSON.stringify([entry.owner, ...PARTS.map((part) => entry[part])]);
}

export function sameFiles(a: RepositoryEntry, b: RepositoryEntry): boolean {
  return FILE_PARTS.every((part) => a[part] === b[part]);
}

/** A deleted repository equals one that is not there. */
export function sameRepository(a: RepositoryEntry | undefined, b: RepositoryEntry | undefined): boolean {
  const goneA = a === undefined || a.deleted;
  const goneB = b === undefined || b.deleted;
  if (goneA || goneB) return goneA && goneB;
  const text = comparable(a);
  return text !== null && text === comparable(b);
}
