import { useEffect, useRef } from "preact/hooks";
import type { Migration } from "../../../../protocol/cluster.ts";
import { clockTime, dayAndTime, duration } from "../model/words.ts";
import { complete, type Folded } from "../state/log.ts";
import { Scrollable } from "./scrollable.tsx";

/** Events before and after the one that is shown; the slider leads to all others. */
const NEAR = 100;

export interface TimelineProps {
  readonly steps: readonly Folded[];
  /** Index of the event whose state is shown; null: now. */
  readonly at: number | null;
  readonly onSelect: (at: number | null) => void;
}

/** Every event of the migration, and a slider that takes the page back to any of them. */
export function Timeline({ steps, at, onSelect }: TimelineProps) {
  const last = steps.length - 1;
  const shown = at ?? last;
  const newest = Math.min(last, shown + NEAR);
  const near = steps.slice(Math.max(0, shown - NEAR), newest + 1).reverse();
  const viewport = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // The list alone: `scrollIntoView` would take the whole page along.
    const [list, current] = [
      viewport.current,
      viewport.current?.querySelector<HTMLElement>("[aria-current]"),
    ];
    if (list && current) list.scrollTop = current.offsetTop - list.clientHeight / 3;
  }, [shown]);
  return (
    <section aria-labelledby="timeline-title" class="timeline">
      <h2 id="timeline-title">Events</h2>
      {complete.value === false && (
        <p class="notice">
          The coordinator began with a checkpoint and no longer has the log's beginning: earlier events are
          missing here, and past states cannot be shown.
        </p>
      )}
      {steps.length > 0 && complete.value === true && (
        <label class="slider">
          Go back in time
          <input
            type="range"
            min={0}
            max={last}
            value={shown}
            aria-valuetext={label(steps[shown])}
            onInput={(event) => {
              const index = Number(event.currentTarget.value);
              onSelect(index === last ? null : index);
            }}
          />
        </label>
      )}
      <Scrollable labelledBy="timeline-title" class="events" viewport={viewport}>
        {/* The newest first: it is why the page was opened. */}
        <ol reversed start={newest + 1}>
          {near.map(({ entry }, index) => (
            <li key={newest - index} aria-current={newest - index === shown ? "step" : undefined}>
              <time dateTime={new Date(entry.at).toISOString()} title={dayAndTime(entry.at)}>
                {clockTime(entry.at)}
              </time>{" "}
              {entry.what}
              {entry.why.length > 0 && <span class="why"> because: {entry.why.join("; ")}</span>}
              <span class="dim">
                {" "}
                {entry.by}, record {entry.sequence}
              </span>
            </li>
          ))}
        </ol>
      </Scrollable>
    </section>
  );
}

function label(step: Folded | undefined): string {
  return step === undefined ? "" : `${step.entry.what}, ${dayAndTime(step.entry.at)}`;
}

/** Says that this is not now, and what the log knew then. */
export function PastBanner({ step, past, onBack }: { step: Folded; past: Migration; onBack: () => void }) {
  const { fence, fenceUp, attempts, approvedBy, transfer, reason, evidence, shares, paused } = past.context;
  const facts: [string, string][] = [
    ["attempts", String(attempts)],
    ["approved by", approvedBy ?? "nobody"],
  ];
  if (fence !== null)
    facts.push([
      "fence",
      `epoch ${fence.epoch}, ${fenceUp ? `up for ${duration(step.entry.at - fence.raisedAt)}` : "down"}`,
    ]);
  if (transfer !== null) facts.push(["route version", String(transfer.routeVersion)]);
  facts.push([
    "shares",
    Object.entries(shares)
      .map(([podId, share]) => `${podId} ${share}`)
      .join(", "),
  ]);
  if (paused !== null) facts.push(["paused", paused.reason]);
  if (reason !== null) facts.push(["reason", reason]);
  if (evidence !== null) facts.push(["evidence", `of ${Object.keys(evidence).length} Pods`]);
  return (
    <section class="past" aria-labelledby="past-title">
      <h2 id="past-title">
        The past: <span data-past-state={past.lifecycle}>{past.lifecycle}</span> after record{" "}
        {step.entry.sequence}
      </h2>
      <p>
        {dayAndTime(step.entry.at)}: {step.entry.what}
      </p>
      <dl>
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <p class="buttons">
        <button type="button" class="primary" onClick={onBack}>
          Back to now
        </button>
      </p>
    </section>
  );
}
