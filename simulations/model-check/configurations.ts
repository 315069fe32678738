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
  about: "one target, one coordinator, one write, abort racing the transfer",
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
      "two targets, two coordinators, one write, a coordinator's crash, abort and revocation racing the transfer",
    targets: 2,
    coordinators: 2,
    allowed: { ...NOTHING, writes: 1, coordinatorCrashes: 1, abort: 1, revoke: 1 },
  },
  {
    ...SMALL,
    name: "any",
    about: "",
    targets: 2,
    coordinators: "any",
    allowed: { ...NOTHING, writes: 1, abort: 1, revoke: 1 },
  },
  {
    ...SMALL,
    name: "any-crash",
    about: "",
    targets: 2,
    coordinators: "any",
    allowed: { ...NOTHING, writes: 1, agentCrashes: 1, abort: 1, revoke: 1 },
  },
  {
    ...SMALL,
    name: "reads",
    about: "",
    targets: 1,
    coordinators: "any",
    reads: true,
    allowed: { ...NOTHING, agentCrashes: 1, abort: 1, revoke: 1 },
  },
];
