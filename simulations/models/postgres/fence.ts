/** The fence of a source: it refuses writers, waits for those in flight, and only then takes its final position. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { Evidence } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { moveEvidence, readTouched } from "./move-verifier.ts";
import type { PostgresStoreParts } from "./parts.ts";
import type { Change } from "./state.ts";

const TERMINATION_MS = 3_000;

/** Rule 4: one message to the server, which goes on with it although the agent may die. */
export async function fence(
  { own: server, run, chance }: PostgresStoreParts,
  duty: Duty,
  signal: AbortSignal,
): Promise<{ evidence: Evidence; stragglers: string[] }> {
  const { migrationId, epoch, targetPodIds } = duty;
  if (epoch === null) throw new CleaveError("INTERNAL", "the goal fence has no epoch");
  const { clock } = run;
  await clock.sleep(0.3, signal);
  server.requirePrimary("fence");
  const startedAt = clock.monotonic();
  const graceMs = duty.settings.cutover.drainGraceMs;
  const token = `${run.host.id}-${Math.floor(chance.next() * 1e9)}`;
  let outcome: { token: string } | Error | null = null;
  const { starts } = server;
  const waiting = server.queueFence(migrationId, () => flip());
  const flip = () => {
    // The lock of flips: a change whose commit is on its way, though its agent may be gone, comes first.
    if (server.administering > 0) {
      run.world.after(0.5, `${server.podId} flip waits`, () => {
        if (server.starts === starts) flip();
      });
      return;
    }
    const shares = [...(server.state.shares.get(migrationId) ?? [])].filter(([target]) =>
      targetPodIds.includes(target as never),
    );
    const finish = (value: { token: string } | Error) => {
      server.leaveQueue(waiting);
      outcome = value;
    };
    const late = shares.find(
      ([, share]) =>
        (share.epoch ?? 0) > epoch ||
        share.phase === "transferred" ||
        share.phase === "opened" ||
        // Each epoch is raised once: it may have been lowered while this waited for writers.
        (share.epoch === epoch && share.phase !== "fenced"),
    );
    if (late || shares.length !== targetPodIds.length) {
      finish(new CleaveError("COMMAND_NOT_POSSIBLE", "the fence comes too late or is not staged"));
      return;
    }
    const known = server.state.markers.get(`${migrationId}/${epoch}`);
    const isUp = shares.every(([, share]) => share.phase === "fenced" && share.epoch === epoch);
    if (isUp && known !== undefined) {
      finish({ token: known });
      return;
    }
    const phases = Object.fromEntries(targetPodIds.map((target) => [target, "fenced" as const]));
    const changes: Change[] = [
      { type: "shares", migrationId, epoch, phases },
      {
        type: "marker",
        migrationId,
        epoch,
        token,
        verified: server.state.verified.get(migrationId) ?? null,
      },
    ];
    server.administer(changes, () => finish({ token }));
  };
  let stragglers = 0;
  try {
    while (outcome === null) {
      await clock.sleep(outcome === null && stragglers === 0 ? 1.5 : 10, signal);
      if (server.starts !== starts) throw new CleaveError("POSTGRES_UNREACHABLE", "the server went away");
      const elapsedMs = clock.monotonic() - startedAt;
      if (outcome !== null || elapsedMs < graceMs) continue;
      stragglers += server.terminateHolders(migrationId);
      if (elapsedMs > graceMs + TERMINATION_MS) throw new CleaveError("DRAIN_INCOMPLETE", "still in flight");
    }
  } catch (error) {
    // The cancel reaches the server a moment later: the flip may have happened by then.
    run.world.after(1, `${server.podId} fence cancelled`, () => {
      if (!waiting.held) server.leaveQueue(waiting);
    });
    throw error;
  }
  const settled = outcome as { token: string } | Error;
  if (settled instanceof Error) throw settled;
  const verified = server.state.verifiedAt.get(`${migrationId}/${epoch}`) ?? null;
  const evidence = {
    epoch,
    digest:
      duty.kind !== "split"
        ? moveEvidence(server, { ...settled, verified }, readTouched(server, migrationId, verified))
        : `${server.systemId}/${server.timeline}/${settled.token}`,
    details: { position: server.position },
  };
  const names = stragglers === 0 ? [] : [`terminated ${stragglers} transactions`];
  return { evidence, stragglers: names };
}
