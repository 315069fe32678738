/** Breadth-first exploration of every state, with the shortest way to the first violation. */
import type { Configuration, WrongStep } from "./configuration.ts";
import { isEnd, type Violation, violationOf } from "./invariants.ts";
import { headOf, migrationAt } from "./log-tree.ts";
import { Model } from "./model.ts";
import { States } from "./state.ts";
import { initialWorld, settle, stepsOf } from "./steps.ts";

export interface Counterexample {
  readonly violation: Violation;
  readonly steps: readonly string[];
}

export interface Result {
  readonly configuration: Configuration;
  readonly wrong: WrongStep | null;
  readonly states: number;
  readonly transitions: number;
  readonly depth: number;
  readonly logs: number;
  /** States in which the migration is over or waits for an operator, by lifecycle. */
  readonly ends: Readonly<Record<string, number>>;
  /** Nothing was left to be looked at. */
  readonly complete: boolean;
  readonly counterexample: Counterexample | null;
}

export interface Limits {
  readonly states: number;
  /** Called about every 50,000 states. */
  readonly onProgress?: (states: number, depth: number, waiting: number) => void;
}

export function explore(
  configuration: Configuration,
  wrong: WrongStep | null = null,
  limits: Limits = { states: 20_000_000 },
): Result {
  const model = new Model(configuration, wrong);
  const states = new States();
  const coordinators = configuration.coordinators === "any" ? 0 : configuration.coordinators;
  const indexes = new Map<string, number>();
  const keys: string[] = [];
  const parents = new Numbers();
  const [from, to] = [new Numbers(), new Numbers()];
  const ended: number[] = [];
  const ends: Record<string, number> = {};
  let depth = 0;
  let levelEnds = 1;

  const add = (key: string, parent: number): number => {
    const known = indexes.get(key);
    if (known !== undefined) return known;
    const index = keys.length;
    indexes.set(key, index);
    keys.push(key);
    parents.push(parent);
    return index;
  };
  const story = (index: number): string[] => {
    const path: number[] = [];
    for (let at = index; at > 0; at = parents.at(at)) path.unshift(at);
    let before = 0;
    return path.map((at) => {
      const world = states.worldOf(keys[before] as string, coordinators);
      before = at;
      const step = stepsOf(model, world).find(({ next }) => states.keyOf(settle(model, next)) === keys[at]);
      return step?.label() ?? "?";
    });
  };
  const result = (complete: boolean, index: number, violation: Violation | null): Result => ({
    configuration,
    wrong,
    states: keys.length,
    transitions: from.length,
    depth,
    logs: model.tree.nodes.length,
    ends,
    complete,
    counterexample: violation && { violation, steps: story(index) },
  });

  add(states.keyOf(settle(model, initialWorld(model))), -1);
  for (let index = 0; index < keys.length; index += 1) {
    if (index === levelEnds) {
      depth += 1;
      levelEnds = keys.length;
    }
    if (index % 50_000 === 0) limits.onProgress?.(index, depth, keys.length - index);
    if (keys.length > limits.states) return result(false, index, null);
    const world = states.worldOf(keys[index] as string, coordinators);
    const violation = violationOf(model, world);
    if (violation) return result(false, index, violation);
    if (isEnd(model, world)) {
      ended.push(index);
      const node = model.tree.at(world.log);
      const { lifecycle, context } = migrationAt(node, headOf(node).sequence);
      const name =
        lifecycle === "retaining" ? `retaining (${Object.values(context.shares).sort()})` : lifecycle;
      ends[name] = (ends[name] ?? 0) + 1;
    }
    for (const { next } of stepsOf(model, world)) {
      const reached = add(states.keyOf(settle(model, next)), index);
      if (reached === index) continue;
      from.push(index);
      to.push(reached);
    }
  }
  const stuck = firstWithoutEnd(keys.length, from, to, ended);
  return stuck === null
    ? result(true, 0, null)
    : result(true, stuck, { invariant: "I9", what: "no end can be reached any more" });
}

/** The state nearest to the beginning from which no end is reachable: the graph is walked back from the ends. */
function firstWithoutEnd(
  states: number,
  from: Numbers,
  to: Numbers,
  ended: readonly number[],
): number | null {
  const starts = new Int32Array(states + 2);
  for (let edge = 0; edge < to.length; edge += 1) (starts[to.at(edge) + 2] as number)++;
  for (let at = 2; at < starts.length; at += 1)
    starts[at] = (starts[at] as number) + (starts[at - 1] as number);
  const sources = new Int32Array(to.length);
  for (let edge = 0; edge < to.length; edge += 1) {
    const slot = starts[to.at(edge) + 1] as number;
    starts[to.at(edge) + 1] = slot + 1;
    sources[slot] = from.at(edge);
  }
  const hasEnd = new Uint8Array(states);
  const queue = [...ended];
  for (const index of queue) hasEnd[index] = 1;
  for (let index = queue.pop(); index !== undefined; index = queue.pop()) {
    for (let slot = starts[index] as number; slot < (starts[index + 1] as number); slot += 1) {
      const before = sources[slot] as number;
      if (hasEnd[before] === 1) continue;
      hasEnd[before] = 1;
      queue.push(before);
    }
  }
  const stuck = hasEnd.indexOf(0);
  return stuck === -1 ? null : stuck;
}

/** A list of numbers that grows without boxing them. */
class Numbers {
  #values = new Int32Array(1 << 16);
  length = 0;

  push(value: number): void {
    if (this.length === this.#values.length) {
      const larger = new Int32Array(this.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.length] = value;
    this.length += 1;
  }

  at(index: number): number {
    return this.#values[index] as number;
  }
}
