/**
 * Makes one local repository equal to the source's. Always self-contained: what the source borrows from other
 * repositories (alternates, pools) comes along as its own objects.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { ContentOf, HeadLocks } from "../backend/backend.ts";
import type { GitContext } from "../context.ts";
import { parseOwner, type RepositoryEntry, sameFiles } from "../inventory/repository-entry.ts";
import { checkRepositoryPath } from "../inventory/repository-path.ts";
import type { SourceFeed } from "./source-feed.ts";

const RELOCK_MS = 1_000;

export interface MirrorOptions {
  /** Of repositories that are not whole yet, before a number; no two mirrors of a Pod have the same. */
  readonly name: string;
  /** Marks what is made here as this migration's; null: it is this Pod's own, as what it follows. */
  readonly mark: MigrationId | null;
  /** Others' repositories are here too: only those of which this is true are changed or removed. Null: all are. */
  readonly isOurs: ((path: string) => Promise<boolean>) | null;
  /** Held in dormant repositories, which are mirrored all the same. */
  readonly locks: HeadLocks | null;
}

export class Mirror {
  readonly #context: GitContext;
  readonly #feed: SourceFeed;
  readonly #options: MirrorOptions;

  /** The backend's hook has been prepared. */
  constructor(context: GitContext, feed: SourceFeed, options: MirrorOptions) {
    this.#context = context;
    this.#feed = feed;
    this.#options = options;
  }

  /** Removes what an earlier process left unfinished; also before the work is given up for good. */
  async prepare(): Promise<void> {
    await this.#context.backend.removeUnfinished(this.#options.name);
  }

  /** Brings the local repository to what the source's is now, which is `wanted` or newer. Idempotent. */
  async sync(wanted: RepositoryEntry, own: RepositoryEntry | undefined, signal: AbortSignal): Promise<void> {
    const path = checkRepositoryPath(wanted.path);
    // A folder below a disk that is gone takes copies as well, until it has filled another disk.
    await this.#context.root.requireLately();
    const exists = await this.#context.backend.isTaken(path);
    if (exists && !(await this.#isOurs(path)))
      throw new CleaveError("GIT_NOT_EMPTY", `${path} is here already, and is another repository`);
    await this.#unlocked(path, signal, async () => {
      if (wanted.deleted) return this.remove(path);
      const owner = parseOwner(wanted.owner);
      if (owner !== null) await this.#context.fence.setOwner(path, owner);
      if (own === undefined || own.deleted || own.reason === "unreadable" || !exists)
        return this.#create(path, exists, signal);
      await this.#update(wanted, own, signal);
    });
    // Where a disk was gone it was written below it, and is on no disk that will be there.
    await this.#context.root.confirm();
  }

  async #create(path: string, replaces: boolean, signal: AbortSignal): Promise<void> {
    const { name, mark } = this.#options;
    // This Pod's own, which others here may read objects from; what is made for a migration is self-contained.
    if (replaces && mark === null) await this.#requireNoBorrower(path, signal);
    const files = await this.#feed.files(path, signal);
    const from = this.#feed.gitAccess(path);
    const contentOf = this.#contentOf(path, signal);
    await this.#context.backend.copy(path, { from, files, contentOf, name, mark, replaces }, signal);
  }

  /** @throws CleaveError REPOSITORY_UNREADABLE when another repository would lose objects by a fresh copy of this one. */
  async #requireNoBorrower(path: string, signal: AbortSignal): Promise<void> {
    const { backend } = this.#context;
    for (const other of (await backend.list(signal, { everything: true })).repositories)
      if (other !== path && (await backend.lendersOf(other)).includes(path))
        throw new CleaveError(
          "REPOSITORY_UNREADABLE",
          `${path} is damaged and is not copied anew, since ${other} uses objects of it: restore it from a backup`,
        );
  }

  async #update(wanted: RepositoryEntry, own: RepositoryEntry, signal: AbortSignal): Promise<void> {
    const { backend } = this.#context;
    const { path } = wanted;
    // Git brings nothing that lies behind the end of a history that is here already.
    if (own.shallow !== wanted.shallow) return this.#create(path, true, signal);
    const hasSymbolic = wanted.symbolicRefs !== "none" || own.symbolicRefs !== "none";
    const sameRefs =
      own.refs === wanted.refs &&
      own.checksum === wanted.checksum &&
      own.symbolicRefs === wanted.symbolicRefs;
    const same = sameFiles(own, wanted);
    const files = same && (sameRefs || !hasSymbolic) ? null : await this.#feed.files(path, signal);
    // Git brings no objects of another format, so one that was made anew with the other is copied anew.
    if (files !== null && own.config !== wanted.config)
      if ((await backend.files(path)).objectFormat !== files.objectFormat)
        return this.#create(path, true, signal);
    const refs = files ?? { head: wanted.head, symbolicRefs: [] };
    const detachedElsewhere = own.head !== refs.head && !refs.head.startsWith("ref:");
    if (!sameRefs || detachedElsewhere) await backend.fetch(path, this.#feed.gitAccess(path), refs, signal);
    if (!same && files !== null) {
      const contentOf = this.#contentOf(path, signal);
      await backend.writeFiles(path, files, { keepHead: own.head === files.head, contentOf });
    }
    await backend.installHook(path);
  }

  #contentOf(path: string, signal: AbortSignal): ContentOf {
    return async (file) => {
      if (file.content !== null) return [Buffer.from(file.content, "base64")];
      return this.#feed.content(path, file.path, signal);
    };
  }

  async remove(path: string): Promise<void> {
    await this.#context.root.require();
    await this.#context.backend.discard(path, this.#options.name);
    await this.#context.fence.removeOwner(path);
  }

  /** Whether the repository here is gone when the source does not have it. */
  async isOwn(path: string): Promise<boolean> {
    const { isOurs, mark } = this.#options;
    if (isOurs !== null) return isOurs(path);
    return mark !== null && this.#context.backend.isMadeFor(path, mark);
  }

  async #isOurs(path: string): Promise<boolean> {
    return this.#options.isOurs === null || this.#options.isOurs(path);
  }

  /** Between the two somebody may change HEAD, as git would tell nobody; the next sweep finds it, and it is undone. */
  async #unlocked(path: string, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    const { locks } = this.#options;
    if (locks === null) return work();
    await locks.release([path]);
    try {
      await work();
    } finally {
      await locks.hold([path], { graceMs: RELOCK_MS, signal });
    }
  }
}
