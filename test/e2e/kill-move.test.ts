import { killInEveryState } from "../support/kill-in-every-state.ts";

for (const name of ["agent-pod-0", "agent-pod-1", "coordinator"]) killInEveryState(name, "move");
