/** Defects in how a root is known again, and in what counts as deleted. */
import type { StoreMutant } from "./store-mutant.ts";

const ROOT = "agent/stores/common/root";
const table = (name: string) => ({ file: `test/${ROOT}/table.test.ts`, name });

export const ROOTS_HUNTS: readonly StoreMutant[] = [
  {
    name: "any-root-will-do",
    says: "A root that is another than before is taken for the one that is known.",
    edits: [
      {
        file: `${ROOT}/known-root.ts`,
        find: "      if (difference !== null) throw",
        replace: "      if (difference === undefined) throw",
      },
    ],
    tests: table("git, retaining the new Pod's root is an empty folder in its place"),
  },
  {
    name: "a-copy-is-the-root",
    says: "A copy that has the mark as well counts as the root itself.",
    edits: [
      {
        file: "agent/stores/common/backend/folder/folder-root.ts",
        find: '    if (!sameFile(known.traits["mark"], found.traits["mark"]))',
        replace: '    if (known.traits["mark"] === "")',
      },
      {
        file: "agent/stores/common/backend/folder/folder-root.ts",
        find: '    if (!sameFile(known.traits["folder"], found.traits["folder"])) return',
        replace: '    if (known.traits["folder"] === "") return',
      },
    ],
    tests: table("objects, following the source's root is a copy of an earlier state"),
  },
  {
    name: "parts-may-go",
    says: "What is mounted in a root is not looked at.",
    edits: [
      {
        file: "agent/stores/common/backend/folder/folder-root.ts",
        find: 'mounts: below.join(" "),',
        replace: 'mounts: below.slice(0, 0).join(" "),',
      },
    ],
    tests: table("git, following the source's root is hidden in part by another volume"),
  },
  {
    name: "every-loss-is-plausible",
    says: "All that is gone counts as deleted, however much it is.",
    edits: [
      {
        file: `${ROOT}/losses.ts`,
        find: "return together <= this.#bound.items ||",
        replace: "return together >= 0 ||",
      },
    ],
    tests: table("objects, retaining the new Pod's root is emptied, but for its mark"),
  },
  {
    name: "a-match-asks-no-root",
    says: "A target proves equality by what it remembers of a root that is not there any more.",
    edits: [
      {
        file: "agent/stores/git/target.ts",
        find: "        await this.#context.root.require();\n        const matched = (until: AbortSignal) => replica.until(() => this.#matched(epoch), until);\n        const marker = { migrationId: duty.migrationId, epoch };\n        await this.#context.named.requireAtFence(marker, assigned(duty), matched, signal);\n        // What was read earlier was read from this root only if it is still there.\n        await this.#context.root.require();\n",
        replace:
          "        const matched = (until: AbortSignal) => replica.until(() => this.#matched(epoch), until);\n        const marker = { migrationId: duty.migrationId, epoch };\n        await this.#context.named.requireAtFence(marker, assigned(duty), matched, signal);\n",
      },
    ],
    tests: table("git, following the target's root is an empty folder in its place"),
  },
  {
    name: "rows-name-nothing-at-the-fence",
    says: "A target gives evidence although its database names what is not there.",
    edits: [
      {
        file: "agent/stores/common/verification/named.ts",
        find: "if (unsaid.length === 0) return;",
        replace: "if (unsaid.length >= 0) return;",
      },
    ],
    tests: {
      file: "test/agent/stores/common/verification/named.test.ts",
      name: "objects what a target's database names and nobody has is named at the fence",
    },
  },
  {
    name: "rows-are-asked-before-the-marker",
    says: "What rows name at the fence is asked of a replica that has not replayed the fence yet.",
    edits: [
      {
        file: "agent/stores/postgres/inventory/owner-lookup.ts",
        find: "=== null)\n          return false;",
        replace: "=== undefined)\n          return false;",
      },
    ],
    tests: {
      file: "test/agent/stores/postgres/inventory/preflight.test.ts",
      name: "what rows name is told in pages, of a moment after the marker of a fence, and not before",
    },
  },
  {
    name: "a-full-disk-is-a-broken-repository",
    says: "What git says of a disk that is full or read-only is taken for a repository that cannot be read.",
    edits: [
      {
        file: "agent/stores/common/file-error.ts",
        find: "if (/No space left on device|Disk quota exceeded/.test(own))",
        replace: "if (own.length < 0)",
      },
    ],
    tests: {
      file: "test/agent/stores/common/root/volume.test.ts",
      name: "git: a target's volume that is full is said to be, and waited for",
    },
  },
  {
    name: "failures-without-a-pause",
    says: "A repository that cannot be fetched is fetched again and again without growing pauses.",
    edits: [
      {
        file: "agent/stores/git/replication/attempts.ts",
        find: "  return Math.min(RETRY_MS.first * 2 ** Math.min(failures, 20), last);",
        replace: "  return Math.min(RETRY_MS.first, last);",
      },
    ],
    tests: {
      file: "test/agent/stores/git/replication/attempts.test.ts",
      name: "a repository with missing blobs is fetched at most so often",
    },
  },
  {
    name: "one-side-of-objects-is-told",
    says: "Keys that the source lacks are not among what differs.",
    edits: [
      {
        file: "agent/stores/objects/verification/differences.ts",
        find: "if (inScope(key) && !seen.has(key)) note",
        replace: "if (inScope(key) && seen.has(key)) note",
      },
    ],
    tests: {
      file: "test/agent/stores/objects/verification/differences.test.ts",
      name: "one that is missing, one that is other, and one that only the target has",
    },
  },
];
