import { killInEveryState } from "../support/kill-in-every-state.ts";

killInEveryState("rollback");
