/**
 * The lifecycle as a drawing: states and transitions of the machine itself. The way from its beginning to its end is
 * a straight line from top to bottom; what leads back goes along its left, and what ends early is on its right. Pure.
 */
import { LIFECYCLES, type Lifecycle, migrationMachine } from "../../../../protocol/migration-machine.ts";

export interface ChartNode {
  readonly id: Lifecycle;
  readonly description: string;
  readonly final: boolean;
  /** Of the centre. */
  readonly x: number;
  readonly y: number;
}

interface Transition {
  readonly from: Lifecycle;
  readonly to: Lifecycle;
  /** Any of them leads this way. */
  readonly events: readonly string[];
}

export interface ChartEdge extends Transition {
  /** As an SVG path writes it. */
  readonly path: string;
}

export interface Chart {
  readonly width: number;
  readonly height: number;
  readonly nodes: readonly ChartNode[];
  readonly edges: readonly ChartEdge[];
}

export const NODE = { width: 104, height: 30 };
const ROW = 50;
const MARGIN = 6;
/** Room for what leads back. */
const LEFT = 64;
const MAIN_X = LEFT + NODE.width / 2;
const SIDE_X = MAIN_X + NODE.width + 76;

export function chart(): Chart {
  const transitions = transitionsOf();
  const main = longestWay(transitions);
  const places = new Map<Lifecycle, { x: number; y: number }>();
  main.forEach((id, index) => {
    places.set(id, { x: MAIN_X, y: MARGIN + NODE.height / 2 + index * ROW });
  });
  const beside = LIFECYCLES.filter((id) => !main.includes(id));
  const wanted = beside.map((id) => ({ id, y: meanHeight(id, transitions, places) }));
  let lowest = Number.NEGATIVE_INFINITY;
  for (const { id, y } of wanted.sort((a, b) => a.y - b.y)) {
    lowest = Math.max(y, lowest + ROW);
    places.set(id, { x: SIDE_X, y: lowest });
  }
  const at = (id: Lifecycle) => places.get(id) as { x: number; y: number };
  const bottom = Math.max(...[...places.values()].map(({ y }) => y));
  return {
    width: SIDE_X + NODE.width / 2 + MARGIN,
    height: bottom + NODE.height / 2 + MARGIN,
    nodes: LIFECYCLES.map((id) => {
      const node = migrationMachine.root.states[id];
      return { id, description: node?.description ?? "", final: node?.type === "final", ...at(id) };
    }),
    edges: transitions.map((edge) => ({ ...edge, path: pathOf(at(edge.from), at(edge.to)) })),
  };
}

/** Between two different states; several events that lead the same way are one. */
function transitionsOf(): Transition[] {
  const found = new Map<string, { from: Lifecycle; to: Lifecycle; events: string[] }>();
  for (const [from, node] of Object.entries(migrationMachine.root.states))
    for (const [event, candidates] of node.transitions)
      for (const { target } of candidates) {
        const to = target?.[0]?.key;
        if (to === undefined || to === from) continue;
        const edge = found.get(`${from} ${to}`) ?? {
          from: from as Lifecycle,
          to: to as Lifecycle,
          events: [],
        };
        if (!edge.events.includes(event)) edge.events.push(event);
        found.set(`${from} ${to}`, edge);
      }
  return [...found.values()];
}

/** From the first state through as many as possible, never back: the order of `LIFECYCLES` is the order of a life. */
function longestWay(transitions: readonly Transition[]): Lifecycle[] {
  const ways = new Map<Lifecycle, Lifecycle[]>([[LIFECYCLES[0], [LIFECYCLES[0]]]]);
  for (const from of LIFECYCLES) {
    const way = ways.get(from);
    if (way === undefined) continue;
    for (const { to } of transitions.filter((edge) => edge.from === from)) {
      if (LIFECYCLES.indexOf(to) <= LIFECYCLES.indexOf(from)) continue;
      if ((ways.get(to)?.length ?? 0) <= way.length) ways.set(to, [...way, to]);
    }
  }
  return [...ways.values()].reduce((longest, way) => (way.length > longest.length ? way : longest));
}

/** Of the states that lead to it. */
function meanHeight(
  id: Lifecycle,
  transitions: readonly Transition[],
  places: ReadonlyMap<Lifecycle, { readonly y: number }>,
): number {
  const heights = transitions.flatMap((edge) => (edge.to === id ? (places.get(edge.from)?.y ?? []) : []));
  return heights.length === 0 ? 0 : heights.reduce((sum, y) => sum + y, 0) / heights.length;
}

function pathOf(from: { x: number; y: number }, to: { x: number; y: number }): string {
  const half = { x: NODE.width / 2, y: NODE.height / 2 };
  if (from.x !== to.x) {
    const side = Math.sign(to.x - from.x);
    const [startX, endX] = [from.x + side * half.x, to.x - side * half.x];
    const middle = (startX + endX) / 2;
    return `M${startX} ${from.y}C${middle} ${from.y} ${middle} ${to.y} ${endX} ${to.y}`;
  }
  if (to.y - from.y === ROW) return `M${from.x} ${from.y + half.y}V${to.y - half.y}`;
  // The longer, the farther out: ways back do not cross each other more than they must.
  const x = from.x - half.x;
  const out = Math.min(LEFT - MARGIN, 18 + Math.abs(from.y - to.y) / 5) * 1.3;
  return `M${x} ${from.y - 5}C${x - out} ${from.y - 5} ${x - out} ${to.y + 5} ${x} ${to.y + 5}`;
}
