/** A process that seeds one target, to be killed: `node postgres-seeding-agent.ts <options as JSON>`. */
import type { PostgresStoreOptions } from "../../../agent/stores/postgres/context.ts";
import { createPostgresStore } from "../../../agent/stores/postgres/store.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { Duty } from "../../../protocol/ports/store.ts";

const { options, duty } = JSON.parse(process.argv[2] ?? "null") as {
  options: Omit<PostgresStoreOptions, "clock" | "log">;
  duty: Omit<Duty, "assignments">;
};
const store = createPostgresStore({ ...options, clock: systemClock, log: silentLogger });
await store.reach({ ...duty, assignments: new Map() }, new AbortController().signal);
await store.close();
