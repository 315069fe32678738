/**
 * Defects in what only real servers run, and so have to find. Each is a change of source text, made while a test file
 * that moves or splits is loaded (vitest.config.ts beside this folder); the tests have to fail.
 */
import { LOOP_HUNTS } from "./agent-loop.ts";
import { EVIDENCE_HUNTS } from "./evidence.ts";
import { FENCE_HUNTS } from "./fence.ts";
import { FILES_HUNTS } from "./files.ts";
import { MOVES_HUNTS } from "./moves.ts";
import { REPOSITORIES_HUNTS } from "./repositories.ts";
import { ROOTS_HUNTS } from "./roots.ts";
import { SCHEMA_HUNTS } from "./schema.ts";
import { SPLIT_HUNTS } from "./split.ts";
import type { StoreMutant } from "./store-mutant.ts";

export const STORE_HUNTS: readonly StoreMutant[] = [
  ...MOVES_HUNTS,
  ...SCHEMA_HUNTS,
  ...FENCE_HUNTS,
  ...SPLIT_HUNTS,
  ...FILES_HUNTS,
  ...LOOP_HUNTS,
  ...REPOSITORIES_HUNTS,
  ...EVIDENCE_HUNTS,
  ...ROOTS_HUNTS,
];
