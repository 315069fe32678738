/** Whether what is not there was deleted, asked again and again of one place. */
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { KnownRoot } from "../../../../../agent/stores/common/root/known-root.ts";
import { FolderBackend } from "../../../../../agent/stores/git/backend/folder/folder.ts";
import { GitConfig } from "../../../../../agent/stores/git/config.ts";
import { Absence } from "../../../../../agent/stores/git/inventory/absence.ts";
import { silentLogger } from "../../../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../../../protocol/adapters/system-clock.ts";
import { GitPod } from "../../../../support/git/pod.ts";

const PATHS = ["red/one.git", "red/two.git", "red/three.git"];

let pod: GitPod;
let root: KnownRoot;
let absence: Absence;

beforeEach(async () => {
  pod = await GitPod.create();
  for (const path of PATHS) await pod.repository(path);
  const config = GitConfig.parse({ root: pod.root });
  const stateDirectory = join(pod.folder, "state", "git");
  const backend = new FolderBackend({ config, control: pod.control, stateDirectory, clock: systemClock });
  root = new KnownRoot({
    root: backend,
    place: pod.root,
    stateDirectory,
    clock: systemClock,
    log: silentLogger,
    onChange: () => undefined,
  });
  await root.establish();
  const ownerLookup = {
    repositories: async () => new Map(),
    repository: async () => null,
    object: () => null,
    namesObjects: false,
    named: async () => true,
  };
  absence = new Absence({ backend, root, ownerLookup, clock: systemClock, config, known: () => PATHS });
});
afterEach(async () => {
  root.close();
  await pod.remove();
});

const away = (path: string) => rename(pod.path(path), `${pod.path(path)}.away`);

it("a look in a hurry, as at a fence, decides nothing but what it saw", async () => {
  absence.urgent = true;
  await away("red/one.git");
  expect(await absence.reasonToKeep("red/one.git")).toBeNull();
  expect(await absence.reasonToKeep("red/two.git")).toBeUndefined();
  await away("red/two.git");
  expect(await absence.reasonToKeep("red/two.git")).toBeNull();
  absence.urgent = false;
  await rename(pod.root, `${pod.root}.away`);
  expect(await absence.reasonToKeep("red/three.git")).toContain("no such file");
  expect(absence.problems).toMatchObject([{ code: "ROOT_UNREADABLE" }]);
  await rename(`${pod.root}.away`, pod.root);
});
