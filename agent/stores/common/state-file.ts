/** One small file of a store's own state, which says one thing over restarts. */
import { lstat, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

export class StateFile {
  readonly #path: string;

  constructor(stateDirectory: string, name: string) {
    this.#path = join(stateDirectory, name);
  }

  exists(): Promise<boolean> {
    return lstat(this.#path).then(
      () => true,
      () => false,
    );
  }

  /** Null when there is none, or none that can be read. */
  read(): Promise<string | null> {
    return readFile(this.#path, "utf8").catch(() => null);
  }

  /** On the disk when it resolves. */
  async write(content: string): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true });
    await writeFile(this.#path, content, { flush: true });
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}
