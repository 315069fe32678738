/** What may become of a root: each state is entered and left again, on the disk that is there, with what a store says of it. */
import { execFile } from "node:child_process";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { copyLive, removeLive } from "../remove-live.ts";

const run = promisify(execFile);

export interface RootState {
  readonly name: string;
  /** The code that says it. */
  readonly code: "ROOT_CHANGED" | "ROOT_UNREADABLE" | "ROOT_LOSSES";
  readonly needsMounts: boolean;
  enter(root: string): Promise<void>;
  leave(root: string): Promise<void>;
}

const away = (root: string) => `${root}.away`;

async function putBack(root: string): Promise<void> {
  await removeLive(root);
  await rename(away(root), root);
}

const mountOver = (folder: string, ...options: string[]) =>
  run("mount", ["-t", "tmpfs", "-o", ["size=1m", ...options].join(","), "none", folder]).then(
    () => undefined,
  );
const unmount = (folder: string) => run("umount", [folder]).then(() => undefined);

/** The folder in which a store has the items of the organization that leaves. */
async function partOf(root: string): Promise<string> {
  const names = await readdir(root);
  return join(root, names.includes("uploads") ? "uploads" : "red");
}

export const ROOT_STATES: readonly RootState[] = [
  {
    name: "an empty folder in its place",
    code: "ROOT_CHANGED",
    needsMounts: false,
    enter: async (root) => {
      await rename(root, away(root));
      await mkdir(root);
    },
    leave: putBack,
  },
  {
    name: "gone",
    code: "ROOT_UNREADABLE",
    needsMounts: false,
    enter: (root) => rename(root, away(root)),
    leave: putBack,
  },
  {
    name: "a copy of an earlier state, mark and all",
    code: "ROOT_CHANGED",
    needsMounts: false,
    enter: async (root) => {
      await copyLive(root, away(root));
      await removeLive(await partOf(away(root)));
      await rename(root, `${root}.real`);
      await rename(away(root), root);
    },
    leave: async (root) => {
      await removeLive(root);
      await rename(`${root}.real`, root);
    },
  },
  {
    name: "a link to another folder",
    code: "ROOT_CHANGED",
    needsMounts: false,
    enter: async (root) => {
      await rename(root, away(root));
      await mkdir(`${root}.other`);
      await run("ln", ["-s", `${root}.other`, root]);
    },
    leave: async (root) => {
      await rm(root);
      await removeLive(`${root}.other`);
      await rename(away(root), root);
    },
  },
  {
    name: "emptied, but for its mark",
    code: "ROOT_LOSSES",
    needsMounts: false,
    enter: async (root) => rename(await partOf(root), `${root}.part`),
    leave: async (root) => {
      const name = (await readdir(`${root}.part`)).some((one) => one.endsWith(".git")) ? "red" : "uploads";
      await removeLive(join(root, name));
      await rename(`${root}.part`, join(root, name));
    },
  },
  {
    name: "hidden by another volume",
    code: "ROOT_CHANGED",
    needsMounts: true,
    enter: (root) => mountOver(root),
    leave: unmount,
  },
  {
    name: "hidden in part by another volume",
    code: "ROOT_CHANGED",
    needsMounts: true,
    enter: async (root) => mountOver(await partOf(root)),
    leave: async (root) => unmount(await partOf(root)),
  },
  {
    name: "hidden by a volume that is read-only",
    code: "ROOT_CHANGED",
    needsMounts: true,
    enter: (root) => mountOver(root, "ro"),
    leave: unmount,
  },
];

/** Whether this process may mount: else what needs it is left out. */
export async function mayMount(folder: string): Promise<boolean> {
  try {
    await mountOver(folder);
    await unmount(folder);
    return true;
  } catch {
    return false;
  }
}
