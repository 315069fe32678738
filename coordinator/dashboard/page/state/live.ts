/** What the coordinator says now: the status stream, what was measured from it, and the time by its clock. */
import { computed, effect, signal } from "@preact/signals";
import type { ClusterStatus } from "../../../api/ports.ts";
import { Measured } from "../model/series.ts";
import type { Refused } from "./client.ts";
import { listen } from "./event-stream.ts";

export const status = signal<ClusterStatus | null>(null);
/** Why nothing new arrives; null while it does. */
export const streamProblem = signal<Refused | null>(null);
export const connected = signal(false);

/** This browser's clock may be wrong; deadlines are told by the coordinator's. */
let clockAheadMs = 0;
/** Milliseconds since 1970 by the coordinator's clock: every second, and ten times a second while a fence is up. */
export const now = signal(Date.now());

/** Grows with what was measured; read it to be told. */
export const measuredTicks = signal(0);
const measured = new Map<string, Measured>();

export function measuredOf(migrationId: string): Measured | null {
  return measured.get(migrationId) ?? null;
}

export const fenceUp = computed(() => status.value?.migrations.some((one) => one.fence !== null) ?? false);

/** Changes with every transfer and revocation: who serves what is another thing then. */
export const routesChanged = computed(
  () =>
    status.value?.migrations
      .map(({ transfer, pods }) =>
        transfer === null ? "" : `${transfer.routeVersion}${pods.map(({ share }) => share).join()}`,
      )
      .join(" ") ?? "",
);

export function followStatus(signal: AbortSignal): Promise<void> {
  return listen<ClusterStatus>(
    {
      path: () => "/v1/status/stream",
      onEvent: take,
      onState: (problem) => {
        connected.value = problem === null;
        streamProblem.value = problem;
      },
    },
    signal,
  );
}

function take(received: ClusterStatus): void {
  clockAheadMs = Date.now() - received.at;
  now.value = received.at;
  for (const migration of received.migrations) {
    const { migrationId } = migration;
    const known = measured.get(migrationId) ?? new Measured();
    measured.set(migrationId, known);
    known.take(migration, received.at);
  }
  for (const id of measured.keys())
    if (!received.migrations.some((one) => one.migrationId === id)) measured.delete(id);
  status.value = received;
  measuredTicks.value += 1;
}

effect(() => {
  const timer = setInterval(
    () => {
      now.value = Date.now() - clockAheadMs;
    },
    fenceUp.value ? 100 : 1_000,
  );
  return () => clearInterval(timer);
});
