import { useState } from "preact/hooks";
import { counted, formatAmount } from "../../../../protocol/wording.ts";
import type { MigrationStatus } from "../../../api/ports.ts";
import { duration, toneOf, worstFirst } from "../model/words.ts";
import { now, status } from "../state/live.ts";
import { foldedOf, foldedUntil } from "../state/log.ts";
import { hrefOf } from "../state/route.ts";
import { Actions } from "./actions.tsx";
import { Badge } from "./badge.tsx";
import { StateChart } from "./chart.tsx";
import { FenceClock } from "./fence-clock.tsx";
import { Matrix } from "./matrix.tsx";
import { Organizations } from "./organizations.tsx";
import { Plots } from "./plots.tsx";
import { ReverseReplication } from "./reverse-replication.tsx";
import { PastBanner, Timeline } from "./timeline.tsx";

export function MigrationPage({ id }: { id: string }) {
  const [past, setPast] = useState<number | null>(null);
  void foldedUntil.value;
  const known = status.value;
  if (known === null) return <p>Waiting for the coordinator…</p>;
  const migration = known.migrations.find((one) => one.migrationId === id);
  if (migration === undefined)
    return (
      <>
        <h1 tabIndex={-1}>{id}</h1>
        <p>
          There is no such migration. <a href="#/">All migrations</a>
        </p>
      </>
    );
  const steps = foldedOf(id);
  const step = past === null ? undefined : steps[past];
  const then = step?.state.migrations[migration.migrationId];
  return (
    <>
      <h1 tabIndex={-1}>
        {id}{" "}
        <Badge tone={toneOf(migration)}>
          {migration.lifecycle}
          {migration.paused !== null && ", paused"}
        </Badge>
      </h1>
      <p class="dim">
        {migration.kind}
        {migration.of !== null && (
          <>
            {" "}
            of <a href={hrefOf(migration.of)}>{migration.of}</a>
          </>
        )}{" "}
        from {migration.sourcePodId} to{" "}
        {migration.pods
          .filter((pod) => pod.role === "target")
          .map((pod) => pod.podId)
          .join(", ")}
        , {counted(migration.organizations, "organization")}
        {migration.attempts > 0 && `, ${counted(migration.attempts, "attempt")}`}
      </p>
      {step !== undefined && then !== undefined ? (
        <PastBanner step={step} past={then} onBack={() => setPast(null)} />
      ) : (
        <Now migration={migration} />
      )}
      <div class="columns">
        <div>
          <StateChart
            at={then?.lifecycle ?? migration.lifecycle}
            steps={past === null ? steps : steps.slice(0, past + 1)}
          />
        </div>
        <div>
          {then === undefined && (
            <>
              <Matrix migration={migration} />
              <ReverseReplication migration={migration} />
              <Plots migrationId={id} />
              <Findings migration={migration} />
            </>
          )}
          <Timeline steps={steps} at={past} onSelect={setPast} />
        </div>
      </div>
      <Organizations migrationId={id} total={migration.organizations} />
    </>
  );
}

/** The five seconds: what is going on, what it waits for, what may be done. */
function Now({ migration }: { migration: MigrationStatus }) {
  const { waitingFor, estimate, paused, reason, transfer } = migration;
  return (
    <div class={`now ${migration.fence === null ? "" : "fenced"}`}>
      <FenceClock migration={migration} />
      {waitingFor.length > 0 && (
        <section aria-labelledby="waiting-title">
          <h2 id="waiting-title">Waiting for</h2>
          <ul class="waiting-list">
            {waitingFor.map((sentence) => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
        </section>
      )}
      {waitingFor.length === 0 && <p>It waits for nothing.</p>}
      {estimate !== null && (
        <p>
          {estimate.leftMs === null ? "No estimate yet" : `About ${duration(estimate.leftMs)} left`}{" "}
          <span class="dim">({estimate.basis})</span>
        </p>
      )}
      {paused !== null && <p class="notice">Paused for {duration(now.value - paused.at)}.</p>}
      {reason !== null && <p class="notice">Last: {reason}</p>}
      {transfer !== null && (
        <p class="dim">
          Authority was transferred in epoch {transfer.epoch}, route version {transfer.routeVersion}.
        </p>
      )}
      <Wal migration={migration} />
      <Actions migration={migration} />
    </div>
  );
}

/** From half of the budget on, or of what is worth knowing without one. */
const WORTH_SAYING_BYTES = 1_000_000_000;

function Wal({ migration: { wal, sourcePodId } }: { migration: MigrationStatus }) {
  if (wal === null) return null;
  if (wal.keptBytes < (wal.budgetBytes === null ? WORTH_SAYING_BYTES : wal.budgetBytes / 2)) return null;
  const budget = wal.budgetBytes === null ? "no budget" : `budget ${formatAmount(wal.budgetBytes, "bytes")}`;
  return (
    <p class="notice">
      {sourcePodId} keeps {formatAmount(wal.keptBytes, "bytes")} of WAL for the slowest target, {budget}.
    </p>
  );
}

function Findings({ migration }: { migration: MigrationStatus }) {
  if (migration.findings.length === 0) return null;
  const tone = { error: "bad", warning: "busy", info: "quiet" } as const;
  return (
    <section aria-labelledby="findings-title">
      <h2 id="findings-title">Findings</h2>
      <ul class="findings">
        {worstFirst(migration.findings).map((finding) => (
          <li key={`${finding.code} ${finding.message}`}>
            <Badge tone={tone[finding.severity]}>{finding.severity}</Badge> <code>{finding.code}</code>{" "}
            {finding.message}
          </li>
        ))}
      </ul>
    </section>
  );
}
