/** A file of a store's own state, beside the store and never in it: what its driver remembers over restarts. */
import { appendFile, mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import writeFileAtomic from "write-file-atomic";
import { readIfPresent, replaceDurably } from "../../../protocol/adapters/durable-files.ts";

/** Methods throw what the file system says, in its words. */
export class StateFile {
  readonly path: string;

  /** `name` may have folders in it. */
  constructor(stateDirectory: string, name: string) {
    this.path = join(stateDirectory, name);
  }

  /** As UTF-8; null when there is no such file. */
  readIfPresent(): Promise<string | null> {
    return readIfPresent(this.path);
  }

  /** Before the first `replace` or `append`, which do not make it. */
  async makeFolder(): Promise<void> {
    await mkdir(dirname(this.path), { recursive: true });
  }

  /** Readers see the old content or the new one. With `durable` it survives a power cut once this resolves. */
  async replace(content: string, options: { readonly durable: boolean }): Promise<void> {
    if (options.durable) await replaceDurably(this.path, content);
    else await writeFileAtomic(this.path, content, { fsync: false });
  }

  /** A kill or a full disk may leave a part of it. */
  async append(content: string): Promise<void> {
    await appendFile(this.path, content);
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true });
  }
}
