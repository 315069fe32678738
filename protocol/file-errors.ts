/** The codes of what goes wrong with repositories, objects and their writers: a part of `ERRORS`, see there. */
export const FILE_ERRORS = {
  REPOSITORY_UNREADABLE: [
    "A repository cannot be read.",
    "Run `git fsck` in it and repair it; unreadable never counts as matching.",
  ],
  REPOSITORY_NOT_CARRIED: [
    "A repository has something in its folder that cannot be made on another Pod.",
    "The message names it and what to do; docs/08-limits.md says what is carried, left behind and refused.",
  ],
  LEFT_BEHIND: [
    "Something of a repository, or among the objects, is left behind on purpose.",
    "Nothing, unless it is needed on the new Pod: then carry it over by hand before the retention ends.",
  ],
  REPOSITORY_HOOK_DISABLED: [
    "The reference-transaction hook of a repository is missing, not executable or bypassed by core.hooksPath.",
    "Remove the repository's core.hooksPath; the agent installs the hook again.",
  ],
  REPOSITORY_LOCKED: [
    "A repository has a lock of a git that announced nothing, so that a fence would wait for it.",
    "If no git runs in that repository, on any machine or in any container, remove the named lock file; else wait for it.",
  ],
  GIT_NOT_EMPTY: ["The target already has repositories.", "A new Pod must be empty: remove them."],
  OBJECTS_NOT_EMPTY: ["The target already has objects.", "A new Pod must be empty: remove them."],
  OBJECT_UNREADABLE: [
    "An object cannot be read.",
    "Check the file and its permissions; unreadable never counts as matching.",
  ],
  OBJECT_KEY_INVALID: [
    "An object's key or a repository's path is none that would be carried, so nothing is written by it.",
    "Correct it as the message says: relative, plain segments (none is empty, `.`, `..`, `.tmp` or begins with `.cleave`) of at most 255 bytes, no control characters, at most 1,024 bytes.",
  ],
  WRITER_UNSEEN: [
    "A write was announced by a process that this agent cannot see, so that nobody knows whether it has ended.",
    "Look for the process on the host that the message names. If it has ended, move the named file from `inflight` to `dirty`; if it lives, wait for it. Let agent and writers share a PID namespace.",
  ],
  WRITERS_ELSEWHERE: [
    "Files of this Pod may be written where this agent's kernel does not see it.",
    "Nothing to do if all writers share the agent's PID namespace and machine. Else see docs/06-running-a-split.md.",
  ],
  WRITE_REVOKED: [
    "A writer's announcement was taken away before its write had ended; nobody knows whether the write counts.",
    "Report the write as failed, read what is there, and write again.",
  ],
  DISK_FAILED: [
    "A disk, or the server that it is on, answered with an error of its own: input/output error, stale handle.",
    "Look at the kernel's log and at the disk. Nothing was deleted; what could not be read or written is tried again by itself.",
  ],
  ROOT_CHANGED: [
    "The place of the repositories or objects is another one than before, or a part of it is not there.",
    'Mount or restore what was there: it goes on by itself, and until then nothing counts as deleted. If it is meant to be another one: docs/17-runbooks.md, "A root is not what it was".',
  ],
  ROOT_UNREADABLE: [
    "The place of the repositories or objects is not there, or cannot be read.",
    "Mount it, or give the agent's user access to it: it goes on by itself, and until then nothing counts as deleted.",
  ],
  ROOT_FORGOTTEN: [
    "What the agent knew of the place of the repositories or objects is damaged or cannot be read, so nobody can say whether it is the same.",
    'Give the agent\'s user access to the named file, or see that the right place is there and say so: docs/17-runbooks.md, "A root is not what it was".',
  ],
  ROOT_LOSSES: [
    "More repositories or objects are gone than anybody announced.",
    'Nothing was deleted elsewhere. Bring them back, and it goes on by itself. If they are meant to be gone: docs/17-runbooks.md, "A root is not what it was".',
  ],
  REPOSITORY_MISSING: [
    "The database names a repository that is not there.",
    "Restore the repository, or delete its row; or accept its absence by name in `git.acceptMissing` of the agent's configuration.",
  ],
  OBJECT_MISSING: [
    "The database names an object that is not there.",
    "Restore the object, or delete its row; or accept its absence by name in `objects.acceptMissing` of the agent's configuration.",
  ],
} as const satisfies Record<string, readonly [summary: string, nextStep: string]>;
