/**
 * What kind of file system a folder is on. Where another machine may change files, this kernel's watches do not tell of
 * it, and what it lists may come from a cache: not seeing something there proves nothing.
 */
import { statfs } from "node:fs/promises";
import type { Medium } from "../common/root/identity.ts";

/** `f_type` of statfs(2) where nobody but this kernel writes. Whatever is not named may be shared. */
const LOCAL: ReadonlyMap<number, string> = new Map([
  [0xef53, "ext4"],
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x01021994, "tmpfs"],
  [0x858458f6, "ramfs"],
  [0x794c7630, "overlay"],
  [0x2fc12fc1, "zfs"],
  [0xf2f52010, "f2fs"],
  [0xca451a4e, "bcachefs"],
  [0x3153464a, "jfs"],
  [0x52654973, "reiserfs"],
]);

/** Names for messages. */
const SHARED: ReadonlyMap<number, string> = new Map([
  [0x6969, "nfs"],
  [0x517b, "smb"],
  [0xff534d42, "cifs"],
  [0xfe534d42, "smb"],
  [0x65735546, "fuse"],
  [0x01021997, "9p"],
  [0x00c36400, "ceph"],
  [0x5346414f, "afs"],
  [0x6b414653, "afs"],
  [0x01161970, "gfs2"],
  [0x7461636f, "ocfs2"],
  [0x0bd00bd0, "lustre"],
  [0x47504653, "gpfs"],
  [0x19830326, "beegfs"],
]);

/** By the number that statfs(2) answers. */
export function fileSystemOf(type: number): Medium {
  const known = type >>> 0;
  const local = LOCAL.get(known);
  if (local !== undefined) return { type: local, isLocal: true };
  return { type: SHARED.get(known) ?? `type 0x${known.toString(16)}`, isLocal: false };
}

/** @throws when the folder is not there. */
export async function fileSystemAt(path: string): Promise<Medium> {
  return fileSystemOf((await statfs(path)).type);
}
