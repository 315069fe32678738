/**
 * Where repositories are kept. Cleave needs no more than this of it; a folder of bare ones is the first, and a Gitaly
 * could be the next: a repository is named by its relative path, content is streamed, and what is to be decided is
 * decided above. Every method that takes a path throws CleaveError REPOSITORY_UNREADABLE when it is none (see
 * `inventory/repository-path.ts`).
 */
import type { Readable } from "node:stream";
import type { Finding } from "../../../../protocol/evidence.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { IdentifiedRoot } from "../../common/root/identity.ts";
import type { CarriedFile, FileDigests, RepositoryFiles } from "./repository-files.ts";

/** What two Pods compare of a repository, whatever backends they have. */
export interface RepositoryState extends FileDigests {
  /** `unreadable` never equals anything (rule 11), whatever the rest says. */
  readonly reason: "ok" | "empty" | "unreadable";
  /** Gitaly's. */
  readonly checksum: string;
  /** SHA-256 of all lines of `git show-ref --head`: also of refs that the checksum leaves out. */
  readonly refs: string;
  /** Why it is unreadable, else empty. */
  readonly detail: string;
}

export interface RepositoryReading {
  readonly state: RepositoryState;
  /** As `look` said before the reading; null when that is not to be relied on. */
  readonly version: string | null;
  /** The same for HEAD alone. */
  readonly headVersion: string | null;
  /** As `glance` says it while nothing is changed; null when that is not to be relied on. */
  readonly glance: string | null;
  /** Locks of refs: of a writer in flight, or left behind by one that was killed. */
  readonly locks: readonly string[];
  /** What of it is left behind on purpose, in words for a person: see `contents.ts`. */
  readonly left: readonly string[];
}

/** What is there. */
export interface RepositoryContent {
  /**
   * Without those that the configuration ignores, unless `everything`. `problems` are entries that cannot be handled
   * and must not be overlooked, in words: links, unusable names. What is not listed is gone only if the place was whole
   * before and after (`identify`). @throws CleaveError ROOT_UNREADABLE when the place cannot be listed.
   */
  list(
    signal?: AbortSignal,
    options?: { readonly everything: boolean },
  ): Promise<{ readonly repositories: readonly string[]; readonly problems: readonly string[] }>;
  /** @throws when nobody can say. */
  exists(path: string): Promise<boolean>;
  /** Something has this name, repository or not. */
  isTaken(path: string): Promise<boolean>;
  /** Neither in the making any more nor partly taken away: what git knows a repository by is there. */
  isWhole(path: string): Promise<boolean>;
  /** Names of what it is made of, passing ones aside: fewer than a moment ago while somebody takes it apart. */
  parts(path: string): Promise<readonly string[]>;
  /** Null when it is not there. @throws when it is no repository, or a part of it cannot be read. */
  read(path: string): Promise<RepositoryReading | null>;
  /** Cheap. `version` is opaque, and another one when anything changed. @throws when it cannot be looked at. */
  look(path: string): Promise<{ readonly version: string; readonly locks: readonly string[] }>;
  /**
   * The last look when a fence goes up, for each repository, so it waits for nothing: opaque, another one when anything
   * changed of which no hook is told. Null when nobody can say.
   */
  glance(path: string): string | null;
  /** That it takes there, as the disk counts them. @throws when it is not there; the signal's reason. */
  bytes(path: string, signal: AbortSignal): Promise<number>;
  /**
   * Cheap beside reading them: `version` is opaque, and another one when any object may have been written since, whoever
   * wrote it. @throws when it cannot be looked at.
   */
  lookAtObjects(path: string): Promise<{ readonly version: string; readonly bytes: number }>;
  /**
   * Reads all objects back. Null when each that a reference needs is there and is what its name says; else what is not, in
   * words. @throws the signal's reason.
   */
  verify(path: string, signal: AbortSignal): Promise<string | null>;
  /** What its references name now, for `verifyNew`; opaque. @throws when it cannot be read. */
  tips(path: string): Promise<Buffer>;
  /** As `verify`, of what references name and did not when `tips` was taken: as much work as was added since. */
  verifyNew(path: string, tips: Buffer, signal: AbortSignal): Promise<string | null>;
  /**
   * Everything that two Pods compare, item by item, sorted by the bytes of its name (Latin-1). @throws as `read`, also in
   * the middle.
   */
  items(path: string): AsyncIterable<RepositoryItem>;
  /** Others of this place whose objects it uses. @throws CleaveError REPOSITORY_UNREADABLE when nobody can say. */
  lendersOf(path: string): Promise<readonly string[]>;
  watch(listener: RepositoryListener): RepositoryWatch;
}

/** For a person who asks what differs: a ref, a file, a mode. */
export interface RepositoryItem {
  /** Kind and name, as `ref refs/heads/main`; no two items of a repository have the same. */
  readonly name: string;
  readonly value: string;
}

export interface RepositoryListener {
  /** May be new; called again whenever it is seen. What it returns is waited for by `settled`. */
  found(path: string): Promise<void>;
  gone(path: string): Promise<void>;
}

export interface RepositoryWatch {
  /** Found and not gone. */
  readonly repositories: ReadonlySet<string>;
  /** As of `list`. */
  readonly problems: readonly string[];
  /** Only `scan` finds what happens in some part of the place. */
  readonly blind: boolean;
  /** Resolves when all that was there has been found and the listener is done with it. */
  start(): Promise<void>;
  /** Lists everything again: in the background only. */
  scan(signal?: AbortSignal): Promise<void>;
  /**
   * Resolves when the listener is done with all that happened before. `told`: every change was told of, at the same cost for
   * any number of repositories. `listed`: changes may have been missed, so everything was listed; one that was replaced by
   * another of its name looks as before.
   */
  settled(signal: AbortSignal): Promise<"told" | "listed">;
  close(): void;
}

/** Checks of the place itself and of what is in it. They change nothing. */
export interface RepositoryChecks {
  /** What serves them, with its version, for people. @throws when nobody can say. */
  about(): Promise<string>;
  /** That what serves them is new enough. */
  checkProgram(): Promise<Finding[]>;
  /** Before repositories are copied from here, and to here: the programs, access, space. */
  checkSource(): Promise<Finding[]>;
  checkTarget(options: { readonly mustBeEmpty: boolean }): Promise<Finding[]>;
  /** Readable, and nothing of its own keeps writers from meeting the hook. */
  checkRepository(path: string): Promise<Finding[]>;
  /** What of it would be left behind on purpose, as `RepositoryReading` says it; nothing of what cannot be read. */
  leftBehind(path: string): Promise<readonly string[]>;
}

/** Where another Pod's agent serves a repository over smart HTTP. */
export interface GitAccess {
  readonly url: string;
  /** The request header that opens it: a secret. */
  readonly header: string;
}

/** The bytes of a file that travels by itself, or came along. */
export type ContentOf = (file: CarriedFile) => Promise<AsyncIterable<Buffer> | Iterable<Buffer>>;

/** What a fetch has to know besides the other's refs. */
export type WantedRefs = Pick<RepositoryFiles, "head" | "symbolicRefs">;

export interface NewRepository {
  readonly from: GitAccess;
  readonly files: RepositoryFiles;
  readonly contentOf: ContentOf;
  /** Of the mirror that makes it: see `removeUnfinished`. */
  readonly name: string;
  /** For which migration it is made; null: it is this Pod's own. */
  readonly mark: MigrationId | null;
  /** What has its name is broken and goes. */
  readonly replaces: boolean;
}

/** Copies of another Pod's repositories. */
export interface RepositoryCopies {
  /** Makes the place if there is none. */
  create(): Promise<void>;
  /** The name of something in the place, repository or not; null when it is empty, as a new volume is. */
  firstEntry(): Promise<string | null>;
  /**
   * The copy gets its name when it is whole and has the hook. It is self-contained: what the other borrows from further
   * repositories comes along. @throws CleaveError DISK_FULL or REPOSITORY_UNREADABLE.
   */
  copy(path: string, copy: NewRepository, signal: AbortSignal): Promise<void>;
  /**
   * Makes refs, symbolic ones too, and objects what the other has now; where the history ends differs, it has to be copied
   * anew. What a process of this agent left locked there is unlocked. @throws as `copy`.
   */
  fetch(path: string, from: GitAccess, wanted: WantedRefs, signal: AbortSignal): Promise<void>;
  /** HEAD (unless `keepHead`), and everything that is carried as files, with modes. The hook of Cleave stays. */
  writeFiles(
    path: string,
    files: RepositoryFiles,
    options: { readonly keepHead: boolean; readonly contentOf: ContentOf },
  ): Promise<void>;
  /** Out of sight at once, and deleted when it resolves. Does nothing when it is not there. */
  discard(path: string, name: string): Promise<void>;
  /** What `copy` and `discard` of that name left behind when they were killed. */
  removeUnfinished(name: string): Promise<void>;
  /** Carries the mark of that migration. */
  isMadeFor(path: string, migrationId: MigrationId): Promise<boolean>;
  removeMark(path: string): Promise<void>;
}

/** What makes every writer ask the fence first. */
export interface WriterHooks {
  /** Before `copy`, `installHook` and `isHookInForce`, once or more often. */
  prepareHook(): Promise<void>;
  /** Idempotent; an earlier hook is run after it. @throws CleaveError REPOSITORY_HOOK_DISABLED. */
  installHook(path: string): Promise<void>;
  isHookInForce(path: string): Promise<boolean>;
  /** The earlier one is put back. */
  removeHook(path: string): Promise<void>;
  /** Null where the hook sees changes of HEAD. */
  headLocks(): Promise<HeadLocks | null>;
  /**
   * Proof that no writer is between the hook's first and second word there, whoever it is and wherever it runs; false where
   * nobody can prove it. @throws when nobody can say.
   */
  holdsNoLock(path: string): Promise<boolean>;
}

export interface HeadLocks {
  /**
   * From then on HEAD cannot change in any of `paths`; those that are not there count as held. `onHeld` is told
   * HEAD's version (see `RepositoryReading`) in that moment, of each that was not held yet.
   * @throws CleaveError DRAIN_INCOMPLETE when a writer holds one for longer than `graceMs`; the signal's reason.
   */
  hold(
    paths: Iterable<string>,
    options: {
      readonly graceMs: number;
      readonly signal: AbortSignal;
      readonly onHeld?: (path: string, headVersion: string | null) => void;
    },
  ): Promise<void>;
  release(paths: Iterable<string>): Promise<void>;
  /** Of these paths the locks that are not the agent's, as a person would find them. */
  foreign(paths: Iterable<string>): AsyncIterable<string>;
}

/**
 * Removal of what a migration left dormant, in steps that a kill may come between.
 * @throws CleaveError REPOSITORY_UNREADABLE when it would reach something outside of the place.
 */
export interface RepositoryRemoval {
  /** Out of sight at once, whatever its size. Does nothing when it is not there. */
  hide(path: string, migrationId: MigrationId): Promise<void>;
  /** Hidden and not deleted yet, also by an earlier process. */
  hidden(migrationId: MigrationId): Promise<readonly string[]>;
  deleteHidden(path: string, migrationId: MigrationId): Promise<void>;
  /** Nothing of that migration's is hidden any more. */
  endHiding(migrationId: MigrationId): Promise<void>;
  /** Of the folders that these are or were in (null: of all) the empty ones. A place without folders does nothing. */
  removeEmptyFolders(paths: Iterable<string> | null): Promise<void>;
}

/** What is served to other Pods' agents. `gitProtocol`: the header of that name, or empty. */
export interface RepositoryServing {
  files(path: string): Promise<RepositoryFiles>;
  /** Of a file that `files` named, by its name there. @throws CleaveError REPOSITORY_UNREADABLE when there is none. */
  content(path: string, name: string): Promise<Readable>;
  /**
   * The answer to `GET info/refs?service=git-upload-pack`, hidden refs included. It fails when git does; whoever
   * destroys it ends what makes it.
   */
  advertiseRefs(path: string, gitProtocol: string): Readable;
  /** The answer to `POST git-upload-pack`. */
  uploadPack(path: string, gitProtocol: string, request: Readable): Readable;
}

export interface RepositoryBackend
  extends IdentifiedRoot,
    RepositoryContent,
    RepositoryChecks,
    RepositoryCopies,
    WriterHooks,
    RepositoryRemoval,
    RepositoryServing {}
