/**
 * A file system of its own in a file, for what depends on a real disk: what was not synced is not in a copy of that file, as
 * after a power loss. Needs root and a loop device; `canMount` says whether there are any.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: "pipe" });

export class Disk {
  readonly folder: string;
  /** Where it is mounted. */
  readonly path: string;
  readonly #image: string;
  readonly #mounted: string[] = [];
  #losses = 0;

  constructor(bytes = 96 * 2 ** 20) {
    this.folder = mkdtempSync(join(tmpdir(), "cleave-disk-"));
    this.#image = join(this.folder, "image");
    this.path = join(this.folder, "mounted");
    writeFileSync(this.#image, "");
    truncateSync(this.#image, bytes);
    run("mkfs.ext4", "-q", "-F", this.#image);
    this.#mount(this.#image, this.path);
    run("sync", "-f", this.path);
  }

  /** What the disk would have if the power went now, mounted at the path that is returned. */
  afterPowerLoss(): string {
    const image = join(this.folder, `image-${++this.#losses}`);
    copyFileSync(this.#image, image);
    const path = join(this.folder, `after-${this.#losses}`);
    this.#mount(image, path);
    return path;
  }

  remove(): void {
    for (const path of this.#mounted.reverse()) run("umount", "-l", path);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Nothing is written by itself for ten minutes, so that only what is synced is there. */
  #mount(image: string, path: string): void {
    mkdirSync(path);
    run("mount", "-o", "loop,commit=600", image, path);
    this.#mounted.push(path);
  }
}

/** This machine lets the test mount a file system. */
export function canMount(): boolean {
  try {
    new Disk(8 * 2 ** 20).remove();
    return true;
  } catch {
    return false;
  }
}
