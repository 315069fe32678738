/** `cleave root` as an operator runs it: on folders that are what they were, are not, cannot be read, or of which nobody knows. */
import { chown, cp, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, it } from "vitest";
import { stringify } from "yaml";
import { describeRoot, type RootState } from "../../../agent/commands/root/main.ts";
import { loadAgentConfig } from "../../../agent/config.ts";
import { FolderRoot } from "../../../agent/stores/common/backend/folder/folder-root.ts";
import { KnownRoot } from "../../../agent/stores/common/root/known-root.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { cleave, endCleave } from "../../support/coordinator/cleave.ts";

type Store = RootState["store"];
const STORES = ["git", "objects"] as const;

let folder: string;
let config: string;
const folders: string[] = [];
const rootOf = (store: Store) => join(folder, store);
const memoryOf = (store: Store) => join(folder, "state", store, "root.json");

/** Beside an agent that is running, and has marked it. */
function agentOf(store: Store): KnownRoot {
  return new KnownRoot({
    root: new FolderRoot(rootOf(store)),
    place: rootOf(store),
    stateDirectory: join(folder, "state", store),
    clock: systemClock,
    log: silentLogger,
    onChange: () => undefined,
  });
}

async function marked(store: Store): Promise<KnownRoot> {
  const agent = agentOf(store);
  await agent.establish();
  agent.close();
  return agent;
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-root-command-"));
  folders.push(folder);
  for (const store of STORES) await mkdir(rootOf(store));
  config = join(folder, "agent.yaml");
  await writeFile(
    config,
    stringify({
      podId: "pod-0",
      stateDirectory: "state",
      listen: { guardPort: 1, peerPort: 2 },
      peerToken: "0123456789abcdef",
      ownershipFile: "ownership.yaml",
      postgres: { dataDirectory: "data", host: "h", port: 1, user: "u", database: "d" },
      git: { root: "git" },
      objects: { root: "objects" },
    }),
  );
});
afterAll(async () => {
  await endCleave();
  for (const one of folders) await rm(one, { recursive: true, force: true });
});

const root = (...args: string[]) => cleave(["root", ...args]);
/** What it says, with its exit code. */
async function list(...args: string[]): Promise<{ code: number | null; states: RootState[] }> {
  const { code, stdout, stderr } = await root(...args, "--config", config, "--json");
  expect(stderr).toBe("");
  return { code, states: JSON.parse(stdout) };
}

it("says of each root what is known and what is there, and fails when they differ", async () => {
  expect(await list()).toEqual({
    code: 0,
    states: STORES.map((store) => ({
      store,
      path: rootOf(store),
      knownId: null,
      foundId: null,
      state: "unmarked",
      detail: "",
    })),
  });
  await marked("git");
  const [agent] = [await marked("objects")];
  await rename(rootOf("git"), `${rootOf("git")}.away`);
  await mkdir(rootOf("git"));
  const { code, stdout, stderr } = await root("--config", config);
  expect({ code, stderr }).toEqual({ code: 3, stderr: "" });
  expect(stdout).toContain(`git      ${rootOf("git")}: changed: has no mark of Cleave's any more`);
  expect(stdout).toContain("next: Mount or restore what was there");
  expect(stdout).toContain(`objects  ${rootOf("objects")}: known\n         known by ${await agent.id()}`);
});

it("names a root that cannot be read, and what it knows of the other one", async () => {
  for (const store of STORES) await marked(store);
  await rm(rootOf("git"), { recursive: true });
  await writeFile(rootOf("git"), "");
  const { code, states } = await list();
  expect([code, states.map(({ state }) => state)]).toEqual([3, ["unreadable", "known"]]);
  expect(states[0]?.detail).toContain("not a folder");
  // Nobody can mean what cannot be read.
  const accepted = await root("accept", "git", "--reason", "new", "--config", config, "--json");
  expect(accepted.code).toBe(1);
  expect(JSON.parse(accepted.stdout)).toMatchObject({ error: "ROOT_UNREADABLE" });
});

it("takes an operator's word: of the root that is there, with a mark, with the reason, and for the agent to read", async () => {
  const agent = await marked("objects");
  const before = await agent.id();
  // As restored without files whose names begin with a dot.
  await rename(rootOf("objects"), `${rootOf("objects")}.away`);
  await mkdir(rootOf("objects"));
  await expect(agent.require()).rejects.toMatchObject({ code: "ROOT_CHANGED" });
  const asRoot = process.getuid?.() === 0;
  if (asRoot) await chown(memoryOf("objects"), 65_534, 65_534);

  const { code, stdout, stderr } = await root(
    "accept",
    "objects",
    "--reason",
    "restored",
    "--config",
    config,
  );
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toContain("known");
  await agent.require();
  expect(agent.lossesAcceptedAt).toBe(0);
  expect([null, before]).not.toContain(await agent.id());
  expect((await stat(memoryOf("objects"))).uid).toBe(asRoot ? 65_534 : process.getuid?.());
  expect(JSON.parse(await readFile(memoryOf("objects"), "utf8")).accepted).toEqual({
    at: expect.any(Number),
    reason: "restored",
  });

  const since = Date.now();
  const losses = await list("accept", "objects", "--reason", "cleared", "--with-losses");
  expect([losses.code, losses.states.map(({ state }) => state)]).toEqual([0, ["known"]]);
  await agent.require();
  expect(agent.lossesAcceptedAt).toBeGreaterThanOrEqual(since);
  // A later word about the root takes nothing of it back.
  await list("accept", "objects", "--reason", "again");
  await agent.require();
  expect(agent.lossesAcceptedAt).toBeGreaterThanOrEqual(since);
});

it("says that what was known is damaged, of that root alone, and goes on by a word", async () => {
  for (const store of STORES) await marked(store);
  await writeFile(memoryOf("git"), '{"id":');
  await expect(agentOf("git").require()).rejects.toMatchObject({ code: "ROOT_FORGOTTEN" });
  const { code, stdout } = await root("--config", config);
  expect(code).toBe(3);
  expect(stdout).toContain(`git      ${rootOf("git")}: forgotten: ${memoryOf("git")} is damaged`);
  expect(stdout).toContain(`objects  ${rootOf("objects")}: known`);
  expect((await list("accept", "git", "--reason", "looked at")).code).toBe(0);
  await agentOf("git").require();
  // What cannot be read may be whole, and is the agent's: no word replaces it.
  await rm(memoryOf("git"));
  await mkdir(memoryOf("git"));
  const accepted = await root("accept", "git", "--reason", "looked at", "--config", config);
  expect(accepted).toMatchObject({ code: 1, stderr: expect.stringContaining("error ROOT_FORGOTTEN: ") });
});

it("holds of no copy of the root that was accepted, and writes nothing of one that no migration has marked", async () => {
  const agent = await marked("git");
  await list("accept", "git", "--reason", "the same");
  await cp(rootOf("git"), `${rootOf("git")}.copy`, { recursive: true });
  await rename(rootOf("git"), `${rootOf("git")}.away`);
  await rename(`${rootOf("git")}.copy`, rootOf("git"));
  await expect(agent.require()).rejects.toMatchObject({ code: "ROOT_CHANGED" });
  const unmarked = await root("accept", "objects", "--reason", "why not", "--config", config);
  expect(unmarked).toMatchObject({ code: 0, stderr: expect.stringContaining("Nothing was written") });
  expect(await describeRoot(await loadAgentConfig(config), "objects")).toMatchObject({ state: "unmarked" });
  await expect(stat(memoryOf("objects"))).rejects.toMatchObject({ code: "ENOENT" });
});

it("a wrong command line changes nothing", async () => {
  const agent = await marked("git");
  const before = await readFile(memoryOf("git"), "utf8");
  const accept = ["accept", "git", "--config", config];
  const wrong: (readonly [args: readonly string[], said: string])[] = [
    [[], "required option '--config"],
    [["accept", "git", "--reason", "x"], "required option '--config"],
    [accept, "required option '--reason"],
    [[...accept, "--reason", " "], "1 to 1000 characters"],
    [[...accept, "--reason", "x".repeat(1_001)], "1 to 1000 characters"],
    [["accept", "postgres", "--config", config, "--reason", "x"], "Allowed choices are git, objects"],
    [["list", "--config", config], "too many arguments"],
  ];
  await Promise.all(
    wrong.map(async ([args, said]) => {
      const { code, stdout, stderr } = await root(...args);
      expect({ args, code, stdout }).toEqual({ args, code: 2, stdout: "" });
      expect(stderr).toContain(said);
    }),
  );
  expect(await readFile(memoryOf("git"), "utf8")).toBe(before);
  await agent.require();
});

it("a configuration that cannot be read is an error, not a root", async () => {
  const ran = await root("--config", join(folder, "none.yaml"));
  expect(ran).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("error CONFIG_INVALID") });
});
