import { formatAmount } from "../../../../protocol/wording.ts";
import { storeLabel } from "../../../domain/wording.ts";
import type { Line } from "../model/series.ts";
import { age } from "../model/words.ts";
import { measuredOf, measuredTicks } from "../state/live.ts";

const WIDTH = 320;
const HEIGHT = 90;

/** How lag and throughput went while this page was open. */
export function Plots({ migrationId }: { migrationId: string }) {
  // Read so that this is drawn again with every measurement.
  void measuredTicks.value;
  const series = measuredOf(migrationId)?.series();
  const drawable = (lines: readonly Line[] | undefined) =>
    lines?.filter((line) => line.points.length > 1) ?? [];
  const lag = byUnit(drawable(series?.lag));
  const throughput = byUnit(drawable(series?.throughput));
  if (lag.length + throughput.length === 0) return null;
  return (
    <section aria-labelledby="plots-title">
      <h2 id="plots-title">Lag and throughput</h2>
      <div class="plots">
        {lag.map(([unit, lines]) => (
          <Plot
            key={`lag ${unit}`}
            title={`Behind the source, ${unit}`}
            lines={lines}
            word={(v) => formatAmount(v, unit)}
          />
        ))}
        {throughput.map(([unit, lines]) => (
          <Plot
            key={`throughput ${unit}`}
            title={`Copied, ${unit} per second`}
            lines={lines}
            word={(v) => `${formatAmount(Math.round(v), unit)}/s`}
          />
        ))}
      </div>
    </section>
  );
}

function byUnit(lines: readonly Line[]): [string, Line[]][] {
  const units = new Map<string, Line[]>();
  for (const line of lines) units.set(line.unit, [...(units.get(line.unit) ?? []), line]);
  return [...units];
}

interface PlotProps {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly word: (value: number) => string;
}

function Plot({ title, lines, word }: PlotProps) {
  const all = lines.flatMap((line) => line.points);
  const from = Math.min(...all.map((point) => point.at));
  const to = Math.max(...all.map((point) => point.at));
  const highest = Math.max(1, ...all.map((point) => point.value));
  const x = (at: number) => ((at - from) / Math.max(1, to - from)) * WIDTH;
  const y = (value: number) => HEIGHT - 2 - (value / highest) * (HEIGHT - 4);
  const last = lines.map((line) => ({ ...line, value: line.points.at(-1)?.value ?? 0 }));
  const told = last.map((line) => `${line.podId} ${storeLabel(line.store)} ${word(line.value)}`).join(", ");
  return (
    <figure>
      <figcaption>
        {title}{" "}
        <span class="dim">
          in {age(to - from)}, at most {word(highest)}
        </span>
      </figcaption>
      <svg
        class="plot"
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`${title}. Now: ${told}.`}
        preserveAspectRatio="none"
      >
        <path class="axis" d={`M0 ${HEIGHT - 1}H${WIDTH}`} />
        {lines.map((line, index) => (
          <path
            key={`${line.podId} ${line.store}`}
            class={`line line-${index % 6}`}
            d={`M${line.points.map((point) => `${x(point.at).toFixed(1)} ${y(point.value).toFixed(1)}`).join("L")}`}
          />
        ))}
      </svg>
      <ul class="legend">
        {last.map((line, index) => (
          <li key={`${line.podId} ${line.store}`}>
            <span class={`swatch line-${index % 6}`} aria-hidden="true" /> {line.podId}{" "}
            {storeLabel(line.store)} <strong>{word(line.value)}</strong>
          </li>
        ))}
      </ul>
    </figure>
  );
}
