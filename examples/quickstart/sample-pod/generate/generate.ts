/** The whole sample Pod: rows, repositories, objects. Deterministic by seed. */
import type pg from "pg";
import { generateObjects } from "./objects.ts";
import { generateRepositories } from "./repositories.ts";
import { generateRows, type SampleProject } from "./rows.ts";
import type { SampleSizes } from "./sizes.ts";

export interface SampleOptions {
  /** A superuser's connection to an empty UTF-8 database. */
  readonly database: pg.ClientConfig;
  readonly gitRoot: string;
  readonly objectRoot: string;
  readonly sizes: SampleSizes;
  readonly seed: number;
  /** A folder with repositories that take the places of generated ones. */
  readonly importRepositories?: string;
  readonly onProgress?: (part: "rows" | "repositories" | "objects", done: number, total: number) => void;
}

export async function generateSamplePod(
  options: SampleOptions,
): Promise<{ readonly projects: readonly SampleProject[] }> {
  const { sizes, seed } = options;
  const tell = options.onProgress ?? (() => undefined);
  const objects = generateObjects(
    options.objectRoot,
    sizes.organizations,
    sizes.objects,
    seed,
    (done, total) => tell("objects", done, total),
  );
  const rows = generateRows(options.database, sizes, seed, (done, total) => tell("rows", done, total));
  const repositories = rows.then((projects) =>
    generateRepositories(options.gitRoot, projects, seed, options.importRepositories, (done, total) =>
      tell("repositories", done, total),
    ),
  );
  const [projects] = await Promise.all([rows, repositories, objects]);
  return { projects };
}
