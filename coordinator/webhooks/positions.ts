/** Up to which record of the log each webhook was told, in one JSON file beside the checkpoint. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { replaceDurably } from "../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../protocol/errors.ts";

const Positions = z.record(z.string(), z.number().int().nonnegative());

export class FilePositions {
  readonly #path: string;
  #positions: Record<string, number> = {};
  /** Written one after another: a later state never loses to an earlier one. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string, positions: Record<string, number>) {
    this.#path = path;
    this.#positions = positions;
  }

  /** @throws CleaveError CONFIG_INVALID or FILE_PERMISSION: guessed anew, receivers would be told nothing or all again. */
  static async open(path: string): Promise<FilePositions> {
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return new FilePositions(path, {});
      throw new CleaveError("FILE_PERMISSION", `${path}: ${(error as Error).message}`, { cause: error });
    }
    const parsed = Positions.safeParse(json(text));
    if (parsed.success) return new FilePositions(path, parsed.data);
    throw new CleaveError("CONFIG_INVALID", `${path} is damaged: ${z.prettifyError(parsed.error)}`);
  }

  /** Null: never told of anything. */
  of(webhook: string): number | null {
    return this.#positions[webhook] ?? null;
  }

  async save(webhook: string, sequence: number): Promise<void> {
    this.#positions = { ...this.#positions, [webhook]: sequence };
    const turn = this.#writing.then(() => replaceDurably(this.#path, `${JSON.stringify(this.#positions)}\n`));
    this.#writing = turn.catch(() => undefined);
    await turn;
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
