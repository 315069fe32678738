import type { Lifecycle } from "../../../../protocol/migration-machine.ts";
import { type ChartEdge, chart, NODE } from "../model/chart.ts";
import type { Folded } from "../state/log.ts";

/** The machine does not change while the page is open. */
const DRAWN = chart();

/** The lifecycle with the way that this migration took, and where it is. */
export function StateChart({ at, steps }: { at: Lifecycle; steps: readonly Folded[] }) {
  const taken = new Set<string>();
  const visited = new Set<Lifecycle>([at]);
  const way: Lifecycle[] = [];
  for (const { entry } of steps) {
    if (entry.from !== null) visited.add(entry.from);
    if (entry.to === null || entry.from === entry.to) continue;
    visited.add(entry.to);
    way.push(entry.to);
    if (entry.from !== null) taken.add(`${entry.from} ${entry.to}`);
  }
  const told = way.length === 0 ? `State ${at}.` : `State ${at}. The way so far: ${way.join(", then ")}.`;
  return (
    <section aria-labelledby="chart-title" class="chart">
      <h2 id="chart-title">Lifecycle</h2>
      <svg viewBox={`0 0 ${DRAWN.width} ${DRAWN.height}`} role="img" aria-label={told}>
        <defs>
          <Arrow id="arrow" />
          <Arrow id="arrow-taken" />
        </defs>
        {DRAWN.edges.map((edge) => (
          <Edge key={`${edge.from} ${edge.to}`} edge={edge} taken={taken.has(`${edge.from} ${edge.to}`)} />
        ))}
        {DRAWN.nodes.map(({ id, description, final, x, y }) => {
          const kind = id === at ? "present" : visited.has(id) ? "visited" : "";
          return (
            <g
              key={id}
              class={`node ${kind} ${final ? "final" : ""}`}
              data-state={id}
              transform={`translate(${x - NODE.width / 2} ${y - NODE.height / 2})`}
            >
              <title>{description}</title>
              <rect width={NODE.width} height={NODE.height} rx={final ? 4 : NODE.height / 2} />
              <text x={NODE.width / 2} y={NODE.height / 2}>
                {id}
              </text>
            </g>
          );
        })}
      </svg>
    </section>
  );
}

function Edge({ edge, taken }: { edge: ChartEdge; taken: boolean }) {
  return (
    <path
      class={`edge ${taken ? "taken" : ""}`}
      d={edge.path}
      marker-end={`url(#${taken ? "arrow-taken" : "arrow"})`}
    >
      <title>
        {edge.from} to {edge.to}: {edge.events.join(", ")}
      </title>
    </path>
  );
}

function Arrow({ id }: { id: string }) {
  return (
    <marker id={id} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">
      <path d="M0 0L8 4L0 8z" />
    </marker>
  );
}
