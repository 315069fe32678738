/** Where one Pod's repositories and objects are kept, chosen by its configuration: the one place that knows which there are. */
import { join } from "node:path";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { AgentConfig } from "../config.ts";
import type { RepositoryBackend } from "./git/backend/backend.ts";
import { FolderBackend as RepositoryFolder } from "./git/backend/folder/folder.ts";
import type { ObjectBackend } from "./objects/backend/backend.ts";
import { FolderBackend as ObjectFolder } from "./objects/backend/folder/folder.ts";

export interface Backends {
  readonly git: RepositoryBackend;
  readonly objects: ObjectBackend;
}

/** Nothing is opened, made or looked at by this alone. */
export function createBackends(
  { git, objects, stateDirectory }: Pick<AgentConfig, "git" | "objects" | "stateDirectory">,
  clock: Clock,
): Backends {
  return {
    git: new RepositoryFolder({
      config: git,
      control: controlOf(stateDirectory),
      stateDirectory: stateOf(stateDirectory, "git"),
      clock,
    }),
    objects: new ObjectFolder(objects.root),
  };
}

/** Where the fence of files is. */
export const controlOf = (stateDirectory: string) => join(stateDirectory, "control");

/** Where the agent keeps what it knows of a store. */
export const stateOf = (stateDirectory: string, store: keyof Backends) => join(stateDirectory, store);
