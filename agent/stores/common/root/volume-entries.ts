/** What the top of a volume may have that is nobody's: never an item of a store, and no reason to call it not empty. */

/** The file by which Cleave knows a root again: see `../backend/folder/folder-root.ts`. */
export const ROOT_MARK = ".cleave-root";

/** File systems make these by themselves: ext4, NetApp, ZFS, CephFS, GlusterFS, quotas. */
const OF_FILE_SYSTEMS: ReadonlySet<string> = new Set([
  "lost+found",
  ".snapshot",
  ".zfs",
  ".snap",
  ".glusterfs",
  ".trashcan",
  "aquota.user",
  "aquota.group",
]);

/** `name`: of something directly in the root. */
export function isOfFileSystem(name: string): boolean {
  return OF_FILE_SYSTEMS.has(name);
}

/** The same, Cleave's own mark included. */
export function isNoItem(name: string): boolean {
  return name === ROOT_MARK || name.startsWith(`${ROOT_MARK}.`) || isOfFileSystem(name);
}
