/**
 * A folder as the root of a store. It is known by the id in its mark, by the folder and the mark themselves (which a
 * backup, a copy or an empty folder of the same name has not), by the device and file system below it, and by what is
 * mounted in it.
 */
import { type BigIntStats, constants } from "node:fs";
import { access, open, readFile, realpath, rename, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { syncFolder } from "../../../../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { fileSystemAt } from "../../../machine/file-systems.ts";
import { mountsOf } from "../../../machine/mounts.ts";
import { ownView } from "../../../machine/processes.ts";
import { spaceIn } from "../../../machine/space.ts";
import { codeOfFileError } from "../../file-error.ts";
import type { IdentifiedRoot, Medium, RootIdentity, Space } from "../../root/identity.ts";
import { ROOT_MARK } from "../../root/volume-entries.ts";

const ID = /^id: ([0-9a-f-]{36})$/m;

/** Extended by every backend that is a folder. */
export class FolderRoot implements IdentifiedRoot {
  readonly place: string;
  readonly #path: string;
  readonly #bootId: () => Promise<string>;

  /** `bootId` tells one start of the machine from another. */
  constructor(path: string, bootId: () => Promise<string> = ownBootId) {
    this.place = path;
    this.#path = resolve(path);
    this.#bootId = bootId;
  }

  async identify(): Promise<RootIdentity> {
    try {
      const root = await realpath(this.#path);
      const folder = await stat(root, { bigint: true });
      if (!folder.isDirectory()) throw new Error("it is not a folder");
      await access(root, constants.R_OK | constants.X_OK);
      const { id, trait } = await readMark(join(root, ROOT_MARK));
      const { fileSystem, below } = await mountsOf(root);
      return {
        id,
        traits: {
          boot: await this.#bootId(),
          device: deviceOf(folder),
          fileSystem,
          folder: traitOf(folder),
          mark: trait,
          mounts: below.join(" "),
        },
      };
    } catch (error) {
      throw new CleaveError("ROOT_UNREADABLE", `${this.#path}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  differenceOf(known: RootIdentity, found: RootIdentity): string | null {
    const is = (name: string) => known.traits[name] === found.traits[name];
    const gone = missing(known.traits["mounts"], found.traits["mounts"]);
    const added = missing(found.traits["mounts"], known.traits["mounts"]);
    if (known.id !== null && found.id === null)
      return `has no mark of Cleave's any more: it is an empty folder, or what was there is not mounted`;
    if (known.id !== found.id) return `has the mark ${found.id}, and was known by ${known.id}`;
    if (gone.length > 0) return `is not whole: nothing is mounted any more at ${gone.join(", ")}`;
    if (added.length > 0) return `has something else mounted in it: ${added.join(", ")}`;
    if (!is("fileSystem"))
      return `is on another file system: ${found.traits["fileSystem"]}, and was on ${known.traits["fileSystem"]}`;
    // Without a block device (NFS, tmpfs, overlays) a number says nothing after a mount, nor any after a start.
    const numbered = !known.traits["device"]?.startsWith("0:") && !found.traits["device"]?.startsWith("0:");
    if (numbered && is("boot") && !is("device"))
      return `is on another device: ${found.traits["device"]}, and was on ${known.traits["device"]}`;
    // A file system in user space may number its files anew at every mount.
    if (found.traits["fileSystem"]?.startsWith("fuse")) return null;
    if (!sameFile(known.traits["mark"], found.traits["mark"]))
      return "has the same mark in another file: it is a copy, or was restored from a backup";
    if (!sameFile(known.traits["folder"], found.traits["folder"])) return "is another folder than before";
    return null;
  }

  async mark(id: string): Promise<void> {
    const path = join(this.#path, ROOT_MARK);
    const next = `${path}.new`;
    try {
      const file = await open(next, "w", 0o644);
      try {
        await file.writeFile(
          `Cleave knows this folder by this file. Do not remove it, and do not copy it elsewhere.\nid: ${id}\n`,
        );
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(next, path);
      await syncFolder(this.#path);
    } catch (error) {
      const code = codeOfFileError(error) ?? "FILE_PERMISSION";
      throw new CleaveError(code, `${this.#path} cannot be marked: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  async unmark(): Promise<void> {
    await rm(join(this.#path, ROOT_MARK), { force: true });
  }

  medium(): Promise<Medium | null> {
    return fileSystemAt(this.#path).catch(() => null);
  }

  space(): Promise<Space> {
    return spaceIn(this.#path, { writable: true });
  }
}

async function ownBootId(): Promise<string> {
  return (await ownView()).boot ?? "unknown";
}

/** A mark that is not whole (its writing was cut off) is none. */
async function readMark(path: string): Promise<{ readonly id: string | null; readonly trait: string }> {
  try {
    const id = ID.exec(await readFile(path, "utf8"))?.[1] ?? null;
    return { id, trait: id === null ? "" : traitOf(await stat(path, { bigint: true })) };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { id: null, trait: "" };
    throw error;
  }
}

/** Inode, and when it was made (0 where the file system does not say). */
function traitOf({ ino, birthtimeNs }: BigIntStats): string {
  return `${ino}.${birthtimeNs}`;
}

/** As `major:minor`. */
function deviceOf({ dev }: BigIntStats): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

function sameFile(known = "", found = ""): boolean {
  const [knownInode, knownBirth] = known.split(".");
  const [foundInode, foundBirth] = found.split(".");
  if (knownInode !== foundInode) return false;
  return knownBirth === foundBirth || knownBirth === "0" || foundBirth === "0";
}

/** Words of the first text that the second does not have. */
function missing(from = "", others = ""): string[] {
  const there = new Set(others.split(" "));
  return from.split(" ").filter((one) => one !== "" && !there.has(one));
}
