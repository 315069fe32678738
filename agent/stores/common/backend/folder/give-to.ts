/** Owners of copies: a copy belongs to whom the original belongs to, as far as the agent may say so. */
import { lchown, lstat } from "node:fs/promises";

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Gives it to its owner as far as this process may: root any, others to a group of theirs. */
export async function giveTo(path: string | Buffer, owner: Owner): Promise<void> {
  const { uid, gid } = owner;
  const own = process.getuid?.() ?? 0;
  const mayGroup = own === 0 || gid === process.getgid?.() || (process.getgroups?.() ?? []).includes(gid);
  const found = await lstat(path);
  if (found.uid === uid && found.gid === gid) return;
  if (own === 0) await lchown(path, uid, gid);
  else if (mayGroup && found.uid === own) await lchown(path, own, gid);
}
