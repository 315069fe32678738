/** Defects in what is read before it counts as evidence, in what is on the disk by then, and in how old a word may be. */
import type { StoreMutant } from "./store-mutant.ts";

const SCRUB = "agent/stores/common/verification/scrub.ts";
const objects = (name: string) => ({ file: "test/agent/stores/objects/verification/scrub.test.ts", name });
const git = (name: string) => ({ file: "test/agent/stores/git/verification/scrub.test.ts", name });
const powerLoss = (name: string) => ({ file: "test/agent/stores/power-loss.test.ts", name });

export const EVIDENCE_HUNTS: readonly StoreMutant[] = [
  {
    name: "ready-without-a-pass",
    says: "A copy of files counts as verified before everything was read back.",
    edits: [
      {
        file: SCRUB,
        find: "return this.#passes > 0 && this.#open.size === 0;",
        replace: "return this.#open.size === 0;",
      },
    ],
    tests: objects("is not verified before everything was read back"),
  },
  {
    name: "evidence-of-what-was-not-read",
    says: "At the fence nothing that was changed is read back.",
    edits: [
      {
        file: SCRUB,
        find: "if (sampledAt === null || this.#unread.assigned.size > 0) return false;",
        replace: "if (sampledAt === null) return false;",
      },
    ],
    tests: {
      file: "test/agent/stores/common/verification/scrub.test.ts",
      name: "at the fence nothing counts",
    },
  },
  {
    name: "no-sample-at-the-fence",
    says: "At the fence nothing is looked at of what did not change.",
    edits: [{ file: SCRUB, find: "shuffled(this.#sample)", replace: "shuffled([])" }],
    tests: objects("between ready and the fence"),
  },
  {
    name: "times-that-can-be-set",
    says: "An object that was rewritten with the same length and time of modification counts as the same.",
    edits: [
      {
        file: "agent/stores/objects/backend/folder/list.ts",
        find: "-${stat.mtimeNs}-${stat.ctimeNs}-",
        replace: "-${stat.mtimeNs}-",
      },
    ],
    tests: objects("finds what was rewritten with the same length and time"),
  },
  {
    name: "repositories-are-not-read",
    says: "Objects of copied repositories are taken to be sound without being read.",
    edits: [
      {
        file: "agent/stores/git/backend/folder/integrity.ts",
        find: "if (first.code === 0 || isAboutReferencesOnly(first)) return null;",
        replace: "if (first.code !== null) return null;",
      },
    ],
    tests: git("between ready and the fence"),
  },
  {
    name: "damage-is-forgotten",
    says: "A repository whose objects are damaged is not made anew, since its references are right.",
    edits: [
      {
        file: "agent/stores/git/replication/replica.ts",
        find: "      inventory.damage(path, why);\n",
        replace: "",
      },
    ],
    tests: git("while following"),
  },
  {
    name: "fetched-and-not-synced",
    says: "What was fetched counts before it is on the disk.",
    edits: [
      {
        file: "agent/stores/git/backend/folder/folder.ts",
        find: "    await syncTree(directory, startedAt);\n",
        replace: "",
      },
      {
        file: "agent/stores/git/backend/folder/fetch.ts",
        find: '  ["core.fsync", "all"],\n',
        replace: "",
      },
    ],
    tests: powerLoss("copies of repositories are whole"),
  },
  {
    name: "objects-without-their-folder",
    says: "An object is renamed to its place, and the folder that names it is not synced.",
    edits: [
      {
        file: "agent/stores/objects/backend/folder/folder.ts",
        find: "      await syncFolder(dirname(path));\n      return {",
        replace: "      return {",
      },
    ],
    tests: powerLoss("an object that was put into a new folder"),
  },
  {
    name: "records-without-their-folder",
    says: "A file of state is replaced, and the folder that names it is not synced.",
    edits: [
      {
        file: "protocol/adapters/durable-files.ts",
        find: "  // The library syncs the file alone.\n  await syncFolder(dirname(path));\n",
        replace: "",
      },
    ],
    tests: powerLoss("a file of state"),
  },
  {
    name: "lease-ends-with-its-length",
    says: "A read lease is taken to end after its length, however old the log's last word was when it began.",
    edits: [
      {
        file: "agent/domain/own-decisions.ts",
        find: "return (readLeaseMs + LOG_STALENESS_MS) * 1.1;",
        replace: "return readLeaseMs * 1.1;",
      },
    ],
    tests: {
      file: "test/agent/domain/own-decisions.test.ts",
      name: "when no read lease of the source can be left",
    },
  },
];
