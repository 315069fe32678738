/** Defects in the fence of repositories and objects: whom a drain waits for, what writers may announce, what is read of it. */
import type { StoreMutant } from "./store-mutant.ts";

const FENCE = "agent/stores/file-fence";
const GIT = "agent/stores/git";
const OBJECTS = "agent/stores/objects";
const fence = (file: string, name: string) => ({ file: `test/${FENCE}/${file}.test.ts`, name });
const writer = (kind: string) => fence("kinds-of-writers", `a writer ${kind}`);
const git = (file: string, name: string) => ({ file: `test/${GIT}/${file}.test.ts`, name });
const objects = (file: string, name: string) => ({ file: `test/${OBJECTS}/${file}.test.ts`, name });

export const FILES_HUNTS: readonly StoreMutant[] = [
  {
    name: "unseen-is-ended",
    says: "A writer in another PID namespace counts as ended, because nobody here has its process id.",
    edits: [
      {
        file: "agent/stores/machine/processes.ts",
        find: '  if (!announced.view || !sees(await ownView(), announced.view)) return "unseen";\n',
        replace: "",
      },
    ],
    tests: git("fence/unseen-writers", "a git in another PID namespace"),
  },
  {
    name: "older-writers-are-seen",
    says: "A writer that does not say where it runs is looked for in the agent's own namespace.",
    edits: [
      {
        file: "agent/stores/machine/processes.ts",
        find: "if (!announced.view || !sees(",
        replace: "if (announced.view && !sees(",
      },
    ],
    tests: writer("of an older version, not seen"),
  },
  {
    name: "boots-are-one",
    says: "Process ids of another machine, or of before the last start, are looked for here.",
    edits: [
      { file: "agent/stores/machine/processes.ts", find: "    own.boot === other.boot &&\n", replace: "" },
    ],
    tests: writer("on another machine"),
  },
  {
    name: "time-namespaces-are-one",
    says: "A start time of another time namespace is taken for that of a reused process id.",
    edits: [
      {
        file: "agent/stores/machine/processes.ts",
        find: "    own.pidNamespace === other.pidNamespace &&\n    own.timeNamespace === other.timeNamespace\n",
        replace: "    own.pidNamespace === other.pidNamespace\n",
      },
    ],
    tests: writer("with another time namespace"),
  },
  {
    name: "reused-ids-are-alive",
    says: "A process id that is another's by now counts as the writer.",
    edits: [
      {
        file: "agent/stores/machine/processes.ts",
        find: "found.startTime === startTime && !found.ended",
        replace: "!found.ended",
      },
    ],
    tests: writer("dead, process id reused"),
  },
  {
    name: "any-process-is-signalled",
    says: "Whoever has the announced process id here is ended.",
    edits: [
      {
        file: "agent/stores/machine/processes.ts",
        find: '  if ((await lifeOf(writer)) !== "alive") return false;\n',
        replace: "",
      },
    ],
    tests: fence("kinds-of-writers", "a process id that is another's is never signalled"),
  },
  {
    name: "garbage-is-nobody",
    says: "An announcement that cannot be read is passed over.",
    edits: [
      {
        file: `${FENCE}/drain.ts`,
        find: 'if (announced === "unreadable") return { intent: null, concern: "wait" };',
        replace: 'if (announced === "unreadable") return null;',
      },
    ],
    tests: writer("who announces garbage"),
  },
  {
    name: "links-are-read",
    says: "An announcement is read wherever a link leads.",
    edits: [
      {
        file: `${FENCE}/announcement.ts`,
        find: "constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK",
        replace: "constants.O_RDONLY | constants.O_NONBLOCK",
      },
      { file: `${FENCE}/announcement.ts`, find: "!stat.isFile() || stat.size > MAX_BYTES", replace: "false" },
      { file: `${FENCE}/announcement.ts`, find: 'await file.readFile("utf8")', replace: '""' },
    ],
    tests: writer("who announces a link"),
  },
  {
    name: "only-the-keys-owner",
    says: "A drain does not ask which organization's fence a writer asked.",
    edits: [
      {
        file: `${FENCE}/drain.ts`,
        find: 'if (organization && concern === "skip" &&',
        replace: "if (false &&",
      },
    ],
    tests: writer("of a neighbour's key, who asked the fence for the fenced"),
  },
  {
    name: "servers-are-ended",
    says: "A server that takes long is ended, with all that it does for others.",
    edits: [
      {
        file: `${FENCE}/drain.ts`,
        find: 'if (concern === "end" && announced.server) concern = "wait";\n',
        replace: "",
      },
    ],
    tests: fence("drain", "drain a server is waited for, not ended"),
  },
  {
    name: "neighbours-are-ended",
    says: "A process is ended although it also writes for an organization that is not fenced.",
    edits: [
      {
        file: `${FENCE}/drain.ts`,
        find: "        if (await writesForNeighbours(control, options, intent)) continue;\n",
        replace: "",
      },
    ],
    tests: fence("drain", "drain a process that also writes for a neighbour"),
  },
  {
    name: "deletions-are-writes",
    says: "A deletion is announced as any change is.",
    edits: [
      {
        file: `${FENCE}/announcement.ts`,
        find: '(intent.change === "delete" ? ["delete"] : [])',
        replace: "[]",
      },
    ],
    tests: fence("kinds-of-writers", "a deletion is announced as one"),
  },
  {
    name: "revoked-is-acknowledged",
    says: "A writer whose announcement was taken away is told that it wrote.",
    edits: [
      {
        file: `${FENCE}/write-intent.ts`,
        find: '  } catch (error) {\n    throw new CleaveError(\n      "WRITE_REVOKED",',
        replace:
          '  } catch (error) {\n    return result;\n    throw new CleaveError(\n      "WRITE_REVOKED",',
      },
    ],
    tests: fence("kinds-of-writers", "a writer whose announcement was taken away"),
  },
  {
    name: "writers-have-no-rule",
    says: "Writers announce keys that the agent does not carry.",
    edits: [{ file: `${FENCE}/write-intent.ts`, find: "  assertCarried(store, key);\n", replace: "" }],
    tests: fence("keys", '"uploads//a"'),
  },
  {
    name: "temporaries-are-keys",
    says: "A key in a folder of unfinished files is accepted, and left behind.",
    edits: [
      {
        file: `${OBJECTS}/inventory/keys.ts`,
        find: "    if (segment === TEMPORARY_FOLDER)\n",
        replace: "    if (segment === TEMPORARY_PREFIX)\n",
      },
    ],
    tests: fence("keys", '"uploads/.tmp/a"'),
  },
  {
    name: "own-names-are-keys",
    says: "A key that begins as Cleave's own files do is accepted.",
    edits: [
      {
        file: `${OBJECTS}/inventory/keys.ts`,
        find: "    if (segment.startsWith(RESERVED_PREFIX))\n",
        replace: "    if (segment.startsWith(TEMPORARY_PREFIX))\n",
      },
    ],
    tests: fence("keys", '"uploads/.cleave"'),
  },
  {
    name: "own-folder-is-a-repositorys",
    says: "A repository in the agent's own folder is accepted, and left behind.",
    edits: [
      {
        file: `${GIT}/inventory/repository-path.ts`,
        find: "  if (path.startsWith(`${OWN_FOLDER}/`))",
        replace: "  if (path === OWN_FOLDER)",
      },
    ],
    tests: fence("keys", "a repository's path"),
  },
  {
    name: "routes-are-not-synced",
    says: "Routes are staged, and a power cut takes them.",
    edits: [
      {
        file: `${FENCE}/file-fence.ts`,
        find: "      if (changed) await this.#syncAll();\n      this.#staged",
        replace: "      this.#staged",
      },
    ],
    tests: fence("power-loss", "routes, shares and the identity"),
  },
  {
    name: "renames-are-not-synced",
    says: "A share is replaced, and a power cut brings the old one back.",
    edits: [
      {
        file: "protocol/adapters/durable-files.ts",
        find: "  if (options.durable) await syncFolder(dirname(path));\n",
        replace: "",
      },
    ],
    tests: fence("power-loss", "routes, shares and the identity"),
  },
  {
    name: "one-name-for-two-containers",
    says: "Processes of two containers with the same id and start announce themselves under one name.",
    edits: [
      {
        file: `${GIT}/backend/folder/hook-script.ts`,
        find: "cleave_id=$PPID-$cleave_start-$cleave_pidns-$cleave_boot",
        replace: "cleave_id=$PPID-0-0-0",
      },
    ],
    tests: git(
      "fence/unseen-writers",
      "a git in another PID namespace  and another with the same process id",
    ),
  },
  {
    name: "hook-says-no-namespace",
    says: "The hook does not say in which PID namespace git runs, so one that was killed is waited for.",
    edits: [
      { file: `${GIT}/backend/folder/hook-script.ts`, find: "pidns=$cleave_pidns ", replace: "pidns=- " },
    ],
    tests: git("backend/folder/hook", "drain counts a git that was killed"),
  },
  {
    name: "no-lock-is-looked-for",
    says: "A git that nobody sees counts as ended although its refs are locked.",
    edits: [
      {
        file: `${GIT}/backend/folder/ref-locks.ts`,
        find: '    if (entry.name.endsWith(".lock")) return true;\n',
        replace: "",
      },
    ],
    tests: git("fence/unseen-writers", "a git in another PID namespace"),
  },
  {
    name: "old-locks-are-dead",
    says: "A HEAD.lock that is old counts as nobody's.",
    edits: [
      {
        file: `${GIT}/backend/folder/head-locks.ts`,
        find: "    if (!(await this.#hasOwnContent(path))) return false;\n    this.#held.add(path);",
        replace:
          "    if (!(await this.#hasOwnContent(path)) && found.mtimeMs > 1) return false;\n    this.#held.add(path);",
      },
    ],
    tests: git("fence/fence", "git that asked nobody that holds HEAD.lock"),
  },
  {
    name: "locks-before-the-hook",
    says: "A ref that was locked before its repository had a hook does not keep a fence from being raised.",
    edits: [
      {
        file: `${GIT}/fence/raise.ts`,
        find: "  await withoutUnannounced(context, tracker, view, graceMs, signal);\n",
        replace: "",
      },
    ],
    tests: git("fence/fence", "git that asked nobody whose ref was locked"),
  },
  {
    name: "nothing-is-read-after-the-drain",
    says: "What the last writers changed is not read before evidence is given.",
    edits: [
      { file: `${GIT}/fence/raise.ts`, find: "  await tracker.settle(view, signal);\n", replace: "" },
      {
        file: `${GIT}/fence/raise.ts`,
        find: "  await Promise.all([...new Set(moved)].map((path) => tracker.lookAgain(path)));\n",
        replace: "",
      },
    ],
    tests: git("fence/fence", "a split the last writer's change is in the evidence"),
  },
  {
    name: "lost-events-are-passed-over",
    says: "Events of watches that the kernel dropped are never asked for.",
    edits: [
      {
        file: "agent/stores/machine/folder-watch.ts",
        find: "for (const told of [...listeners]) told();",
        replace: "void listeners;",
      },
    ],
    tests: git("backend/folder/tree-watch", "a repository that came while events were lost"),
  },
  {
    name: "everybodys-disk-is-watched",
    says: "Watches are relied on where other machines write.",
    edits: [{ file: `${GIT}/backend/folder/tree-watch.ts`, find: "this.#shared || ", replace: "" }],
    tests: git("backend/folder/tree-watch", "on such a file system"),
  },
  {
    name: "announced-objects-are-not-read",
    says: "What the last writers of objects changed is not read before evidence is given.",
    edits: [
      {
        file: `${OBJECTS}/fence/raise.ts`,
        find: "  await orAborted(tracker.settle(inScope), signal);\n",
        replace: "",
      },
    ],
    tests: fence("writers", "no write that a program was told of is missing"),
  },
  {
    name: "writes-announce-deletions",
    says: "An object of which a write was announced counts as deleted when it is not there.",
    edits: [
      {
        file: `${OBJECTS}/inventory/tracker.ts`,
        find: "this.#refreshAnnounced(key, deleted.has(key))",
        replace: "this.#refreshAnnounced(key, true)",
      },
    ],
    tests: objects("store", "seed and follow who announces writes of objects that are lost"),
  },
  {
    name: "evidence-outlives-a-change",
    says: "An object of a fenced organization that changed after the drain changes nothing of the evidence.",
    edits: [
      {
        file: `${OBJECTS}/source.ts`,
        find: "    if (this.#final === null || this.#scope === null) return null;\n",
        replace: "    if (this.#final !== null || this.#scope === null) return null;\n",
      },
    ],
    tests: objects("fence/fence", "fence and match a writer that asks the fence for another organization"),
  },
  {
    name: "anybodys-fence-will-do",
    says: "Nobody is told of a writer that asks the fence for another organization than its key's owner.",
    edits: [
      {
        file: `${OBJECTS}/inventory/tracker.ts`,
        find: "      this.#noteAsked(key, organization);\n",
        replace: "",
      },
    ],
    tests: objects("fence/fence", "fence and match a writer that asks the fence for another organization"),
  },
];
