/** AgentMemory in one JSON file, replaced by rename and synced. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { replaceDurably } from "../../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import { MigrationId } from "../../../protocol/ids.ts";
import type { AgentFacts, AgentMemory } from "../../../protocol/ports/agent-memory.ts";

const Facts = z.object({ incarnation: z.number().int().positive(), released: z.array(MigrationId) });

export class FileMemory implements AgentMemory {
  readonly #path: string;
  constructor(path: string) {
    this.#path = path;
  }

  /** @throws CleaveError FILE_PERMISSION when the file exists and cannot be read: forgetting what was removed is not safe. */
  async load(): Promise<AgentFacts | null> {
    let text: string;
    try {
      text = await readFile(this.#path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw new CleaveError("FILE_PERMISSION", `${this.#path}: ${(error as Error).message}`, {
        cause: error,
      });
    }
    const parsed = Facts.safeParse(JSON.parse(text));
    if (!parsed.success)
      throw new CleaveError("CONFIG_INVALID", `${this.#path} is damaged: ${z.prettifyError(parsed.error)}`);
    return parsed.data;
  }

  async save(facts: AgentFacts): Promise<void> {
    await replaceDurably(this.#path, `${JSON.stringify(facts)}\n`);
  }
}
