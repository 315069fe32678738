/**
 * Mutants: deliberate defects, as somebody could have written them. Each is a change of source text, made while the
 * file is loaded into a process of its own; production code has no switch for them, so a release cannot contain one.
 */
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export const ROOT = join(import.meta.dirname, "../..");

/** In place of a mutant's name: the program as it is. */
export const UNHARMED = "unharmed";

export interface Edit {
  /** Relative to the project. */
  readonly file: string;
  /** Occurs in the file exactly once; whitespace counts. */
  readonly find: string;
  readonly replace: string;
}

export interface Mutant {
  readonly name: string;
  /** The defect, as one sentence about the program. */
  readonly says: string;
  /** It is one of moves: the seeds that hunt it plan nothing else. */
  readonly moves?: true;
  /** It is one of the way back: the seeds that hunt it keep one. */
  readonly reverseReplication?: true;
  readonly edits: readonly Edit[];
}

/** @throws Error when an edit's text is not in the source exactly once: the code moved on without its mutant. */
export function applyEdit(source: string, edit: Edit, name: string): string {
  const parts = source.split(edit.find);
  if (parts.length !== 2)
    throw new Error(`mutant ${name}: found ${parts.length - 1} times in ${edit.file}: ${edit.find}`);
  return parts.join(edit.replace);
}

/** Every edit of the mutant against the sources as they are now. */
export function checkMutant(mutant: Mutant): void {
  for (const edit of mutant.edits) applyEdit(readFileSync(join(ROOT, edit.file), "utf8"), edit, mutant.name);
}

/** From now on this process loads the mutant instead. Call it before anything of the program is imported. */
export function loadMutant(mutant: Mutant): void {
  const edits = Map.groupBy(mutant.edits, (edit) => pathToFileURL(join(ROOT, edit.file)).href);
  registerHooks({
    load: (url, context, nextLoad) => {
      const loaded = nextLoad(url, context);
      const wanted = edits.get(url);
      if (!wanted || loaded.source === undefined || loaded.source === null) return loaded;
      let source =
        typeof loaded.source === "string"
          ? loaded.source
          : Buffer.from(loaded.source as Uint8Array).toString("utf8");
      for (const edit of wanted) source = applyEdit(source, edit, mutant.name);
      return { ...loaded, source };
    },
  });
}
