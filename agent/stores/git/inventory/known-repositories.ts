/**
 * Which repositories this Pod had when its agent looked last, over restarts: without it one that vanished while no agent
 * ran would never have been there. A cache of the inventory's names, checked against what is there at start.
 */
import { StateFile } from "../../common/state-file.ts";
import { isRepositoryPath } from "./repository-path.ts";

export class KnownRepositories {
  readonly #file: StateFile;
  /** Path → owner, as entries name it. */
  readonly #known = new Map<string, string | null>();
  #unsaved: string[] = [];
  #saving: Promise<void> | null = null;
  #isClosed = false;

  constructor(stateDirectory: string) {
    this.#file = new StateFile(stateDirectory, "known-repositories.jsonl");
  }

  /** What an earlier process knew. Damaged lines are left out. */
  async open(): Promise<ReadonlyMap<string, string | null>> {
    await this.#file.makeFolder();
    for (const line of ((await this.#file.readIfPresent()) ?? "").split("\n")) {
      const [path, owner, gone] = parse(line);
      if (path === null) continue;
      if (gone) this.#known.delete(path);
      else this.#known.set(path, owner);
    }
    const lines = [...this.#known].map(([path, owner]) => JSON.stringify([path, owner]));
    // On a full disk the old file stays, which says the same in more lines.
    await this.#file.replace(`${lines.join("\n")}\n`, { durable: false }).catch(() => undefined);
    return new Map(this.#known);
  }

  note(path: string, owner: string | null): void {
    if (this.#known.has(path) && this.#known.get(path) === owner) return;
    this.#known.set(path, owner);
    this.#save(JSON.stringify([path, owner]));
  }

  forget(path: string): void {
    if (this.#known.delete(path)) this.#save(JSON.stringify([path, null, "gone"]));
  }

  async discard(): Promise<void> {
    this.#known.clear();
    await this.saved();
    await this.#file.remove();
  }

  /** Nothing is written once this resolves: a look that ends later finds its folder as others left it. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.saved();
  }

  async saved(): Promise<void> {
    while (this.#saving !== null) await this.#saving;
  }

  #save(line: string): void {
    if (this.#isClosed) return;
    this.#unsaved.push(line);
    this.#saving ??= this.#flush().finally(() => {
      this.#saving = null;
    });
  }

  async #flush(): Promise<void> {
    while (this.#unsaved.length > 0) {
      const lines = this.#unsaved;
      this.#unsaved = [];
      try {
        await this.#file.makeFolder();
        // The leading line end closes a line that a full disk or a kill cut off.
        await this.#file.append(`\n${lines.join("\n")}\n`);
      } catch {
        // A lost name is found again when it is looked for; a lost deletion is judged once more.
        return;
      }
    }
  }
}

function parse(line: string): [path: string | null, owner: string | null, gone: boolean] {
  try {
    const [path, owner, gone] = JSON.parse(line) as unknown[];
    if (typeof path === "string" && isRepositoryPath(path))
      return [path, typeof owner === "string" ? owner : null, gone === "gone"];
  } catch {
    // Cut off, or empty.
  }
  return [null, null, false];
}
