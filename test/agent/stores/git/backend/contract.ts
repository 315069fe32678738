/** What every repository backend has to do, whatever it keeps the repositories in. */
import { contentContract } from "./content-contract.ts";
import { type RepositoryWorld, useWorld } from "./world.ts";
import { writingContract } from "./writing-contract.ts";

/** `makeWorld` is called before each test. */
export function repositoryBackendContract(name: string, makeWorld: () => Promise<RepositoryWorld>): void {
  const world = useWorld(makeWorld);
  contentContract(name, world);
  writingContract(name, world);
}
