/** How long each phase of a migration took, from the times of the log's own records. */
export interface TimedEvent {
  /** Milliseconds since 1970, by the clock of the process that appended the record. */
  readonly at: number;
  readonly type: string;
}

/** From one event to the next; `last` where several targets each append one. */
const PHASES = [
  ["preflight", "PreflightStarted", "PreflightPassed"],
  ["seeding", "PreflightPassed", "SeedingCompleted"],
  ["following", "SeedingCompleted", "ReplicasCaughtUp"],
  ["approval", "ReplicasCaughtUp", "FenceRaised"],
  ["draining", "FenceRaised", "SourceDrained"],
  ["matching", "SourceDrained", "ConsensusReached"],
  ["deciding", "ConsensusReached", "AuthorityTransferred"],
  ["opening", "AuthorityTransferred", "Opened"],
] as const;

/** Milliseconds per phase; phases whose events are not all there are left out. A phase run again counts as last run. */
export function phasesOf(events: readonly TimedEvent[]): Record<string, number> {
  const last = (type: string) => events.findLast((event) => event.type === type)?.at;
  const result: Record<string, number> = {};
  for (const [name, from, to] of PHASES) {
    const [start, end] = [last(from), last(to)];
    if (start !== undefined && end !== undefined && end >= start) result[name] = end - start;
  }
  return result;
}
