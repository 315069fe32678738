import { MOVE_MUTANTS } from "./move-mutants.ts";
import type { Mutant } from "./mutant.ts";
import { PROTOCOL_MUTANTS } from "./protocol-mutants.ts";
import { REVERSE_REPLICATION_MUTANTS } from "./reverse-replication-mutants.ts";
import { STORE_MUTANTS } from "./store-mutants.ts";

export const MUTANTS: readonly Mutant[] = [
  ...PROTOCOL_MUTANTS,
  ...STORE_MUTANTS,
  ...MOVE_MUTANTS,
  ...REVERSE_REPLICATION_MUTANTS,
];

/** @throws Error naming all mutants when there is none of that name. */
export function mutantNamed(name: string): Mutant {
  const found = MUTANTS.find((mutant) => mutant.name === name);
  if (!found)
    throw new Error(
      `there is no mutant ${name}; there are ${MUTANTS.map((mutant) => mutant.name).join(", ")}`,
    );
  return found;
}
