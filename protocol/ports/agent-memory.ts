import type { MigrationId } from "../ids.ts";

export interface AgentFacts {
  /** Of the newest start; grows with every start of this Pod's agent (rule 3). */
  readonly incarnation: number;
  /** Aborted migrations of which nothing is left on this Pod. */
  readonly released: readonly MigrationId[];
}

/** The few facts that an agent knows by itself and keeps over restarts; everything else is in the log. */
export interface AgentMemory {
  load(): Promise<AgentFacts | null>;
  /** Durable when it resolves. */
  save(facts: AgentFacts): Promise<void>;
}
