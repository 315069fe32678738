/** A defect in what only real servers run. */
import type { Mutant } from "../mutant.ts";

export interface StoreMutant extends Mutant {
  /** One of these tests has to find it, by file and the beginning of a name. */
  readonly tests: { readonly file: string; readonly name: string };
}
