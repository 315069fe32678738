/**
 * What may lie in a repository's folder, and what becomes of each on another Pod (rule 14). What no line names is carried
 * byte by byte, with its mode. `docs/08-limits.md` has the same table for operators.
 */

export type Fate =
  /** Byte by byte, and in the evidence. */
  | "carried"
  /** Carried as what it means and not as a file: refs, HEAD, shallow roots, objects. */
  | "meaning"
  /** Of this agent, or of a git that is at work in this moment. */
  | "passing"
  /** Made from the rest by git's own housekeeping, whenever it is asked to. */
  | "derived"
  /** Left behind on purpose, and named in the plan. */
  | "left"
  /** Nobody could make it on another Pod: the repository is refused while it is there. */
  | "refused";

interface Line {
  readonly pattern: RegExp;
  readonly fate: Fate;
  /** In words for an operator: what it is; of what is refused, why and what to do. */
  readonly says: string;
}

/** The first that matches decides, also of everything below a folder. Paths are relative, with Latin-1 for bytes. */
const TABLE: readonly Line[] = [
  { pattern: /^cleave-(mirror|fetch)$/, fate: "passing", says: "a mark of Cleave" },
  { pattern: /(^|\/)\.cleave-[^/]*$/, fate: "passing", says: "a temporary file of Cleave" },
  {
    // Of files that git itself locks. Another one of such a name is somebody's, and is carried.
    pattern:
      /^([A-Z_]+|config(\.worktree)?|packed-refs|shallow|index|sharedindex\.[^/]*|description|gc\.pid|cleave-[^/]*|info\/(refs|attributes|exclude|sparse-checkout|grafts))\.lock$/,
    fate: "passing",
    says: "a lock",
  },
  {
    pattern: /^(packed-refs\.new|gc\.pid|(shallow|tmp|tmp_[a-z]+|info\/refs)_[^/]{6}|\.MERGE_[^/]*)$/,
    fate: "passing",
    says: "a file of a git that is at work",
  },
  { pattern: /^(HEAD|packed-refs|refs|shallow)$/, fate: "meaning", says: "refs and the end of the history" },
  { pattern: /^objects$/, fate: "meaning", says: "objects that refs or HEAD reach" },
  {
    pattern: /^commondir$/,
    fate: "refused",
    says: "its refs and objects are another repository's (commondir): make it a repository of its own",
  },
  { pattern: /^reftable$/, fate: "refused", says: "the reftable format is not supported yet" },
  {
    pattern: /^info\/grafts$/,
    fate: "refused",
    says: "info/grafts changes its history for this Pod alone: use `git replace --convert-graft-file`",
  },
  {
    pattern: /^modules$/,
    fate: "refused",
    says: "it has repositories of submodules inside, whose writers meet no fence: move them out of it",
  },
  { pattern: /^logs$/, fate: "left", says: "reflogs" },
  { pattern: /^worktrees$/, fate: "left", says: "linked work trees" },
  {
    pattern:
      /^([A-Z_]+_HEAD|MERGE_[A-Z]+|BISECT_[A-Z_]+|AUTO_MERGE|[A-Z]+_EDITMSG|SQUASH_MSG|index|sharedindex\.[^/]*|rebase-apply|rebase-merge|sequencer)$/,
    fate: "left",
    says: "the state of work in progress (index, FETCH_HEAD, MERGE_HEAD and the like)",
  },
  { pattern: /^hooks\/[^/]+\.sample$/, fate: "derived", says: "git's examples of hooks" },
  { pattern: /^(info\/refs|gc\.log|gitk\.cache)$/, fate: "derived", says: "lists of what there is" },
];

export function fateOf(path: string): Line | null {
  return TABLE.find(({ pattern }) => pattern.test(path)) ?? null;
}

/** Of what a path from another Pod may name: only what is carried is ever written. */
export function isCarried(path: string): boolean {
  if (path === "" || path.startsWith("/") || /[\u0000]/.test(path)) return false;
  const segments = path.split("/");
  if (segments.some((segment) => segment === "" || segment === "." || segment === "..")) return false;
  return segments.every((_segment, index) => fateOf(segments.slice(0, index + 1).join("/")) === null);
}
