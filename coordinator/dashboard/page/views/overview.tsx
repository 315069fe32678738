import { isOver } from "../../../../protocol/migration-machine.ts";
import { counted } from "../../../../protocol/wording.ts";
import type { MigrationStatus } from "../../../api/ports.ts";
import { age, toneOf } from "../model/words.ts";
import { now, status } from "../state/live.ts";
import { hrefOf } from "../state/route.ts";
import { Badge } from "./badge.tsx";
import { FenceClock } from "./fence-clock.tsx";
import { Scrollable } from "./scrollable.tsx";

/** Longer than this between two reports, and the agent is no voter any more. */
const SILENT_MS = 5_000;

export function Overview() {
  const known = status.value;
  if (known === null) return <p>Waiting for the coordinator…</p>;
  // The newest first: it is why somebody got up.
  const all = [...known.migrations].reverse();
  const live = all.filter((one) => !isOver(one.lifecycle));
  const over = all.filter((one) => isOver(one.lifecycle));
  return (
    <>
      <h1 tabIndex={-1}>Migrations</h1>
      {all.length === 0 && (
        <p>
          No migrations. Begin with <code>cleave plan FILE</code>.
        </p>
      )}
      {all.length > 0 && live.length === 0 && <p>No migration is under way.</p>}
      <ul class="cards" aria-label="Migrations under way">
        {live.map((one) => (
          <li key={one.migrationId}>
            <Card migration={one} />
          </li>
        ))}
      </ul>
      {over.length > 0 && <Over migrations={over} />}
      <Pods />
    </>
  );
}

function Card({ migration }: { migration: MigrationStatus }) {
  return (
    <article class={`card ${migration.fence === null ? "" : "fenced"}`}>
      <h2>
        <a href={hrefOf(migration.migrationId)}>{migration.migrationId}</a>
      </h2>
      <p>
        <Badge tone={toneOf(migration)}>
          {migration.lifecycle}
          {migration.paused !== null && ", paused"}
        </Badge>{" "}
        {migration.kind} of {migration.sourcePodId}, {counted(migration.organizations, "organization")}
      </p>
      <FenceClock migration={migration} />
      {migration.waitingFor.slice(0, 3).map((reason) => (
        <p key={reason} class="waiting">
          waiting for {reason}
        </p>
      ))}
      {migration.waitingFor.length > 3 && <p class="waiting">and {migration.waitingFor.length - 3} more</p>}
    </article>
  );
}

function Over({ migrations }: { migrations: readonly MigrationStatus[] }) {
  return (
    <section aria-labelledby="over">
      <h2 id="over">Over</h2>
      <Scrollable labelledBy="over">
        <table>
          <thead>
            <tr>
              <th scope="col">Migration</th>
              <th scope="col">State</th>
              <th scope="col">What</th>
              <th scope="col">Last word</th>
            </tr>
          </thead>
          <tbody>
            {migrations.map((one) => (
              <tr key={one.migrationId}>
                <th scope="row">
                  <a href={hrefOf(one.migrationId)}>{one.migrationId}</a>
                </th>
                <td>
                  <Badge tone={toneOf(one)}>{one.lifecycle}</Badge>
                </td>
                <td>
                  {one.kind} of {one.sourcePodId}, {counted(one.organizations, "organization")}
                </td>
                <td>{one.reason ?? "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scrollable>
    </section>
  );
}

function Pods() {
  const known = status.value;
  if (known === null) return null;
  const later = Math.max(0, now.value - known.at);
  const pods = known.pods.map((pod) => ({
    ...pod,
    ageMs: pod.lastReportAgeMs === null ? null : pod.lastReportAgeMs + later,
  }));
  // Silence is what one has to see.
  pods.sort((a, b) => rank(a.ageMs) - rank(b.ageMs));
  return (
    <section aria-labelledby="pods">
      <h2 id="pods">Pods</h2>
      <Scrollable labelledBy="pods">
        <table>
          <thead>
            <tr>
              <th scope="col">Pod</th>
              <th scope="col">Agent</th>
              <th scope="col">Last report</th>
              <th scope="col">Version</th>
            </tr>
          </thead>
          <tbody>
            {pods.map(({ podId, ageMs, software, problems }) => (
              <tr key={podId}>
                <th scope="row">{podId}</th>
                <td>
                  {ageMs === null ? (
                    <Badge tone="bad">never reported</Badge>
                  ) : ageMs > SILENT_MS ? (
                    <Badge tone="bad">silent</Badge>
                  ) : problems.length > 0 ? (
                    <Badge tone="bad">reporting a problem</Badge>
                  ) : (
                    <Badge tone="good">reporting</Badge>
                  )}
                  {problems.map(({ message }) => (
                    <div key={message}>{message}</div>
                  ))}
                </td>
                <td class="number">{ageMs === null ? "–" : `${age(ageMs)} ago`}</td>
                <td>{software ?? "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scrollable>
    </section>
  );
}

function rank(ageMs: number | null): number {
  return ageMs === null ? 0 : ageMs > SILENT_MS ? 1 : 2;
}
