/**
 * Hooks that are not in force any more. An application may be deleting such a repository, hooks first, and its statement
 * must not fail at a hook that comes back meanwhile: only what nothing was taken from since the last look gets it again.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { RepositoryBackend } from "../backend/backend.ts";

type Backend = Pick<RepositoryBackend, "parts" | "isWhole" | "isHookInForce" | "installHook">;

/** Why a repository gets no hook at all for now: no git works in it. */
export function notWhole(): CleaveError {
  const why = "it has not all of HEAD, objects and refs: it is being made or taken apart, or is damaged";
  return new CleaveError("REPOSITORY_UNREADABLE", why);
}

export class ReturningHooks {
  readonly #backend: Backend;
  /** Path → what the repository was made of at the last look. */
  readonly #parts = new Map<string, readonly string[]>();

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** Repositories whose hook is to come back. */
  get paths(): string[] {
    return [...this.#parts.keys()];
  }

  /** Its hook was found not to be in force. */
  async note(path: string): Promise<void> {
    if (!this.#parts.has(path)) this.#parts.set(path, await this.#backend.parts(path));
  }

  forget(path: string): void {
    this.#parts.delete(path);
  }

  /** Whether the hook was put back now; one that stays away is asked for again. @throws as `installHook`. */
  async putBack(path: string): Promise<boolean> {
    const before = this.#parts.get(path) ?? [];
    if (await this.#backend.isHookInForce(path)) {
      this.forget(path);
      return false;
    }
    const parts = new Set(await this.#backend.parts(path));
    this.#parts.set(path, [...parts]);
    if (before.some((name) => !parts.has(name)) || !(await this.#backend.isWhole(path))) return false;
    await this.#backend.installHook(path);
    this.forget(path);
    return true;
  }
}
