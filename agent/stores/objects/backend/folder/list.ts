/** All objects below a folder, in the order of their keys, without following a link. */
import type { Dirent } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { isNoItem } from "../../../common/root/volume-entries.ts";
import { compareKeys, isTemporary, keyFault } from "../../inventory/keys.ts";
import type { ListedObject, ListOptions } from "../backend.ts";

const STAT_CONCURRENCY = 16;

interface Child {
  readonly name: string;
  readonly isFolder: boolean;
}

/**
 * Size, times and inode: another content has another one. The time of change is among them since nobody can set it, as
 * `touch` or an unpacked archive sets the time of modification; another mode or link count has another version as well.
 */
export function versionOf(stat: { size: bigint; mtimeNs: bigint; ctimeNs: bigint; ino: bigint }): string {
  return `${stat.size}-${stat.mtimeNs}-${stat.ctimeNs}-${stat.ino}`;
}

export async function* listFolder(
  root: string,
  folder: string,
  options: ListOptions,
): AsyncGenerator<ListedObject> {
  const children = await readFolder(root, folder, options);
  for (let index = 0; index < children.length; ) {
    const child = children[index] as Child;
    if (child.isFolder) {
      const path = `${folder}${child.name}/`;
      if (mayContain(path, options)) yield* listFolder(root, path, options);
      index += 1;
      continue;
    }
    const batch: string[] = [];
    for (; index < children.length && batch.length < STAT_CONCURRENCY; index++) {
      const next = children[index] as Child;
      if (next.isFolder) break;
      batch.push(`${folder}${next.name}`);
    }
    const listed = await Promise.all(
      batch.filter((key) => wanted(key, options)).map((key) => statFile(root, key, options)),
    );
    for (const object of listed) if (object !== null) yield object;
  }
}

function wanted(key: string, { prefix, after }: ListOptions): boolean {
  return (
    (prefix === undefined || key.startsWith(prefix)) && (after === undefined || compareKeys(key, after) > 0)
  );
}

function mayContain(folder: string, { prefix, after }: ListOptions): boolean {
  if (prefix !== undefined && !folder.startsWith(prefix) && !prefix.startsWith(folder)) return false;
  return after === undefined || after.startsWith(folder) || compareKeys(folder, after) > 0;
}

/** Sorted as if every folder's name ended with a slash, which is the order of the keys below. */
async function readFolder(root: string, folder: string, options: ListOptions): Promise<Child[]> {
  let entries: Dirent<Buffer>[];
  try {
    entries = await readdir(join(root, folder), { withFileTypes: true, encoding: "buffer" });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" && folder !== "") return [];
    options.onUnlistable?.(folder === "" ? root : folder, message);
    return [];
  }
  const children: Child[] = [];
  for (const entry of entries) {
    const name = entry.name.toString("utf8");
    const path = `${folder}${name}`;
    if (folder === "" && isNoItem(name)) continue;
    if (!Buffer.from(name).equals(entry.name)) {
      options.onUnlistable?.(path, "its name is not UTF-8");
    } else if (isTemporary(name)) {
      if (entry.isFile()) options.onTemporary?.(path);
      else if (entry.isDirectory()) options.onTemporaryFolder?.(path);
    } else if (keyFault(path) !== null) {
      options.onUnlistable?.(path, keyFault(path) as string);
    } else if (entry.isDirectory()) {
      children.push({ name, isFolder: true });
    } else if (entry.isFile()) {
      children.push({ name, isFolder: false });
    } else {
      options.onUnlistable?.(path, "it is neither a file nor a folder; links are not followed");
    }
  }
  const orderName = (child: Child) => (child.isFolder ? `${child.name}/` : child.name);
  return children.sort((a, b) => compareKeys(orderName(a), orderName(b)));
}

async function statFile(root: string, key: string, options: ListOptions): Promise<ListedObject | null> {
  try {
    const stat = await lstat(join(root, key), { bigint: true });
    if (!stat.isFile()) return null;
    return { key, bytes: Number(stat.size), version: versionOf(stat) };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR") options.onUnlistable?.(key, message);
    return null;
  }
}
