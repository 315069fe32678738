/** Which hooks were called on this Pod, in one JSON file: a restart repeats what was not done, and nothing else. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { replaceDurably } from "../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../protocol/errors.ts";

/** By migration: its calls by key, and by hook whether it is done. */
const Content = z.record(z.string(), z.record(z.string(), z.enum(["begun", "done"])));

export class HookJournal {
  readonly #path: string;
  #content: z.infer<typeof Content>;
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string, content: z.infer<typeof Content>) {
    this.#path = path;
    this.#content = content;
  }

  /** @throws CleaveError CONFIG_INVALID or FILE_PERMISSION */
  static async open(path: string): Promise<HookJournal> {
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return new HookJournal(path, {});
      throw new CleaveError("FILE_PERMISSION", `${path}: ${(error as Error).message}`, { cause: error });
    }
    try {
      return new HookJournal(path, Content.parse(JSON.parse(text)));
    } catch (error) {
      throw new CleaveError("CONFIG_INVALID", `${path} is damaged: ${(error as Error).message}`);
    }
  }

  /** Whether this agent, or its predecessor, knows the migration at all. */
  knows(migration: string): boolean {
    return this.#content[migration] !== undefined;
  }

  isDone(migration: string, key: string, hook: string): boolean {
    return this.#content[migration]?.[`${key}/${hook}`] === "done";
  }

  /** A call with this key was begun, of whichever hook. */
  begun(migration: string, key: string): boolean {
    return Object.keys(this.#content[migration] ?? {}).some((entry) => entry.startsWith(`${key}/`));
  }

  /** Resolves when it is on the disk. */
  note(migration: string, entries: Readonly<Record<string, "begun" | "done">>): Promise<void> {
    this.#content = { ...this.#content, [migration]: { ...this.#content[migration], ...entries } };
    const turn = this.#writing.then(() => replaceDurably(this.#path, `${JSON.stringify(this.#content)}\n`));
    this.#writing = turn.catch(() => undefined);
    return turn;
  }
}
