/** The configurations that are explored to their ends. */
import type { Configuration } from "./configuration.ts";
import type { Allowance } from "./state.ts";

const NOTHING: Allowance = {
  writes: 0,
  coordinatorCrashes: 0,
  agentCrashes: 0,
  start: 0,
  approve: 0,
  abort: 0,
  revoke: 0,
  fellBehind: 0,
};

const SMALL: Configuration = {
  name: "small",
  about: "one target, one coordinator, one write, abort and revocation racing the transfer",
  targets: 1,
  from: "ready",
  approval: "auto",
  attempts: 1,
  coordinators: 1,
  allowed: { ...NOTHING, writes: 1, abort: 1, revoke: 1 },
  reads: false,
};

export const CONFIGURATIONS: readonly Configuration[] = [
  SMALL,
  {
    ...SMALL,
    name: "abort-race",
    about:
      "two targets, two coordinators of which one crashes, a write, abort and revocation racing the transfer",
    targets: 2,
    coordinators: 2,
    allowed: { ...NOTHING, writes: 1, coordinatorCrashes: 1, abort: 1, revoke: 1 },
  },
  {
    ...SMALL,
    name: "agent-crash",
    about: "an agent crashes at any instant and goes back to its checkpoint; any number of coordinators",
    coordinators: "any",
    allowed: { ...NOTHING, writes: 2, agentCrashes: 1, abort: 1, revoke: 1 },
  },
  {
    ...SMALL,
    name: "two-agent-crashes",
    about: "two crashes of agents, one write; any number of coordinators",
    coordinators: "any",
    allowed: { ...NOTHING, writes: 1, agentCrashes: 2, abort: 1, revoke: 1 },
  },
  {
    ...SMALL,
    name: "two-fences",
    about: "a second fence after a lowered one, with everything of the first still under way",
    attempts: 2,
    coordinators: "any",
    allowed: { ...NOTHING, writes: 2, abort: 1, revoke: 1 },
  },
  {
    ...SMALL,
    name: "reads",
    about: "read leases: an agent crashes, and a log server that was cut off confirms an old end of the log",
    coordinators: "any",
    allowed: { ...NOTHING, agentCrashes: 1, abort: 1, revoke: 1 },
    reads: true,
  },
  {
    ...SMALL,
    name: "whole-life",
    about:
      "from the plan on: start, checks, seeding, approval, with an agent crash; any number of coordinators",
    from: "planned",
    approval: "manual",
    coordinators: "any",
    allowed: { ...NOTHING, start: 1, approve: 1, writes: 1, agentCrashes: 1, abort: 1, revoke: 1 },
  },
  {
    ...SMALL,
    name: "two-targets-crash",
    about:
      "two targets, an agent crashes, late targets are revoked by themselves; any number of coordinators",
    targets: 2,
    coordinators: "any",
    allowed: { ...NOTHING, agentCrashes: 1 },
  },
];

/** @throws Error that names the configurations there are. */
export function configurationNamed(name: string): Configuration {
  const found = CONFIGURATIONS.find((configuration) => configuration.name === name);
  if (found) return found;
  const names = CONFIGURATIONS.map((configuration) => configuration.name).join(", ");
  throw new Error(`there is no configuration ${name}; there are ${names}`);
}
