import { killInEveryState } from "../support/kill-in-every-state.ts";

killInEveryState("agent-pod-0", "rollback");
