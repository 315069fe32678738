/** Defects in what a copy of a repository has: what is read, fetched, written, looked at, and said of it. */
import type { StoreMutant } from "./store-mutant.ts";

const GIT = "agent/stores/git";
const FOLDER = `${GIT}/backend/folder`;
const closed = (name: string) => ({ file: `test/${GIT}/verification/closed-world.test.ts`, name });
const differences = (name: string) => ({ file: `test/${GIT}/verification/differences.test.ts`, name });
const locks = (name: string) => ({ file: `test/${FOLDER}/own-locks.test.ts`, name });
const parts = (file: string, name: string) => ({ file: `test/${GIT}/${file}.test.ts`, name });
const before = closed("before the first check");
const following = closed("while it follows");
const backwards = closed("on the new Pod");

export const REPOSITORIES_HUNTS: readonly StoreMutant[] = [
  {
    name: "one-look-in-a-hurry-is-for-ever",
    says: "What is not there when a fence goes up is judged by that look from then on, whatever becomes of it.",
    edits: [
      {
        file: `${GIT}/inventory/absence.ts`,
        find: "await (urgent ? null : clock.sleep(GATHER_MS));",
        replace: "if (!urgent) await clock.sleep(GATHER_MS);",
      },
    ],
    tests: parts("inventory/absence", "a look in a hurry"),
  },
  {
    name: "refs-written-in-place-pass",
    says: "The last look when a fence goes up is at folders of refs, and not at refs that are files.",
    edits: [
      {
        file: `${FOLDER}/glance.ts`,
        find: "...refs.refFolders, ...refs.looseRefs];",
        replace: "...refs.refFolders];",
      },
    ],
    tests: closed("a ref that is written in place"),
  },
  {
    name: "times-that-anybody-sets-are-believed",
    says: "What was changed and got its old time of modification again is not read again.",
    edits: [
      {
        file: `${FOLDER}/fingerprint.ts`,
        find: '${name === OUR_HOOK ? "" : s.ctimeNs} ',
        replace: "",
      },
    ],
    tests: parts("backend/folder/fingerprint", "refs/heads/main with another content"),
  },
  {
    name: "other-formats-are-fetched",
    says: "A repository that was made anew with the other object format is fetched into the copy of the old one, for ever.",
    edits: [
      {
        file: `${GIT}/replication/mirror.ts`,
        find: "(await backend.files(path)).objectFormat !== files.objectFormat",
        replace: "(await backend.files(path)).objectFormat === undefined",
      },
    ],
    tests: following,
  },
  {
    name: "hooks-come-back-to-what-goes",
    says: "A hook is put back into a repository that an application is deleting, whose deletion then fails.",
    edits: [
      {
        file: `${GIT}/fence/returning-hooks.ts`,
        find: "before.some((name) => !parts.has(name)) || ",
        replace: "",
      },
    ],
    tests: parts("fence/returning-hooks", "gets nothing between any two steps"),
  },
  {
    name: "one-writer-takes-all-hooks",
    says: "The one file that all repositories have as their hook stays as somebody wrote it.",
    edits: [{ file: `${FOLDER}/hook-install.ts`, find: "  await mendStub(hook);\n", replace: "" }],
    tests: parts("backend/folder/hook", "in all repositories again"),
  },
  {
    name: "symbolic-refs-are-branches",
    says: "A ref that follows another one arrives as a branch of its own.",
    edits: [
      {
        file: `${FOLDER}/symbolic-refs.ts`,
        find: 'return text.startsWith("ref:") ? text.slice(4).trim() : null;',
        replace: 'return text.startsWith("ref:never") ? text.slice(4).trim() : null;',
      },
    ],
    tests: before,
  },
  {
    name: "histories-end-where-they-ended",
    says: "A copy whose source was deepened or unshallowed keeps the end that it had.",
    edits: [
      {
        file: `${GIT}/replication/mirror.ts`,
        find: "if (own.shallow !== wanted.shallow) return",
        replace: "if (own.shallow === undefined) return",
      },
    ],
    tests: following,
  },
  {
    name: "bitmaps-are-believed",
    says: "What git once noted of what a commit reaches decides what a copy gets.",
    edits: [{ file: `${FOLDER}/upload-pack.ts`, find: '  ["pack.useBitmaps", "false"],\n', replace: "" }],
    tests: before,
  },
  {
    name: "detached-commits-stay",
    says: "The commit of a detached HEAD is not asked for, and no ref brings it.",
    edits: [{ file: `${FOLDER}/fetch.ts`, find: "lines.push(head);", replace: "lines.push();" }],
    tests: before,
  },
  {
    name: "copies-rule-their-fetches",
    says: "What the users' configuration forbids or redirects, the agent's fetch into the copy obeys.",
    edits: [
      {
        file: `${FOLDER}/fetch.ts`,
        find: "      `--git-dir=${view}`,\n",
        replace: "      `--git-dir=${directory}`,\n",
      },
    ],
    tests: following,
  },
  {
    name: "no-last-look",
    says: "What no hook is told of may change between the last sweep and the fence.",
    edits: [
      {
        file: `${GIT}/fence/raise.ts`,
        find: "if (inventory.glanceChanged(path)) changed.push(path);",
        replace: "if (path === '') changed.push(path);",
      },
    ],
    tests: following,
  },
  {
    name: "includes-are-overlooked",
    says: "A configuration that is elsewhere is no reason to refuse a repository.",
    edits: [{ file: `${FOLDER}/refused.ts`, find: "if (/include/i.test(text)) {", replace: "if (false) {" }],
    tests: before,
  },
  {
    name: "everybody-may-read",
    says: "What git makes in a copy has the modes that the agent's umask gives it.",
    edits: [
      {
        file: `${FOLDER}/permissions.ts`,
        find: "return permissions === (0o666 & ~process.umask());",
        replace: "return permissions >= 0;",
      },
    ],
    tests: closed("owners and modes"),
  },
  {
    name: "modes-are-not-carried",
    says: "Files and folders of a copy keep the modes that they were made with.",
    edits: [
      {
        file: `${FOLDER}/write-files.ts`,
        find: "for (const entry of [...files.entries].reverse()) await applyMode(",
        replace: "for (const entry of files.entries.slice(0, 0)) await applyMode(",
      },
    ],
    tests: backwards,
  },
  {
    name: "own-locks-stay",
    says: "Locks that a killed git of the agent left in a copy keep it from following for ever.",
    edits: [
      {
        file: `${FOLDER}/own-locks.ts`,
        find: "for (const lock of locks) if (!others.has(lock.id)) await rm(",
        replace: "for (const lock of locks) if (others.has(lock.id)) await rm(",
      },
    ],
    tests: locks("are removed by the next fetch"),
  },
  {
    name: "any-old-lock-goes",
    says: "A lock that is old is removed although a process works in the repository.",
    edits: [{ file: `${FOLDER}/own-locks.ts`, find: " && !isInUse(directory))", replace: ")" }],
    tests: locks("of others stay"),
  },
  {
    name: "new-locks-go",
    says: "A lock that somebody took just now is removed as one that was left behind.",
    edits: [
      {
        file: `${FOLDER}/own-locks.ts`,
        find: "const LEFT_BEHIND_MS = 15_000;",
        replace: "const LEFT_BEHIND_MS = -1;",
      },
    ],
    tests: locks("of others stay"),
  },
  {
    name: "what-differs-is-not-said",
    says: "A repository that stays different is told of without what differs.",
    edits: [
      {
        file: `${GIT}/verification/describing.ts`,
        find: 'if (text !== "") onText(text);',
        replace: "void text;",
      },
    ],
    tests: differences("says which refs and files differ"),
  },
  {
    name: "one-side-is-told",
    says: "What the source lacks is not among what differs.",
    edits: [
      {
        file: `${GIT}/verification/differences.ts`,
        find: "note(ours.name, null, ours.value);",
        replace: "void ours.name;",
      },
    ],
    tests: differences("are told with both values"),
  },
];
