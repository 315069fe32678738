/** What all steps of one exploration share: the configuration, the logs met so far, and duties by number. */
import { dutiesOf, dutyKey } from "../../agent/domain/react.ts";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import type { MigrationId, PodId } from "../../protocol/ids.ts";
import type { Duty } from "../../protocol/ports/store.ts";
import { type Cluster, MIGRATION_ID, smallCluster } from "./cluster.ts";
import type { Configuration, WrongStep } from "./configuration.ts";
import { LogTree, withoutReasons } from "./log-tree.ts";
import type { Pending, World } from "./state.ts";

/** One thing that can happen in a state. */
export interface Step {
  /** For the story of a counterexample; made only when it is told. */
  readonly label: () => string;
  readonly next: World;
}

const RELEASED: ReadonlySet<MigrationId> = new Set([MIGRATION_ID]);
const NOT_RELEASED: ReadonlySet<MigrationId> = new Set();

export class Model {
  readonly configuration: Configuration;
  readonly wrong: WrongStep | null;
  readonly cluster: Cluster;
  readonly tree = new LogTree();
  readonly #answers = new WeakMap<ClusterState, Map<string, unknown>>();
  readonly #pendings = new Map<string, Pending>();
  readonly #numbers = new Map<string, number>();
  readonly #byNumber: Duty[] = [];

  constructor(configuration: Configuration, wrong: WrongStep | null) {
    this.configuration = configuration;
    this.wrong = wrong;
    this.cluster = smallCluster(configuration);
  }

  /** The Pod's duty on a prefix of the log, as its agent derives it; null: leave everything as it is. */
  dutyOf(state: ClusterState, pod: PodId, released: boolean): Duty | null {
    return this.once(state, `duty ${pod} ${released}`, () => {
      const all = dutiesOf(state, pod, this.cluster.assignmentsOf, released ? RELEASED : NOT_RELEASED);
      return all[0] ?? null;
    });
  }

  /** Equal numbers are equal keys of production's `dutyKey`. */
  numberOf(duty: Duty): number {
    const key = dutyKey(duty);
    let number = this.#numbers.get(key);
    if (number === undefined) {
      number = this.#numbers.size + 1;
      this.#numbers.set(key, number);
      this.#byNumber[number] = duty;
    }
    return number;
  }

  dutyNumbered(number: number): Duty {
    return this.#byNumber[number] as Duty;
  }

  /** `world` with one agent replaced. */
  withAgent(world: World, index: number, agent: World["agents"][number]): World {
    return { ...world, agents: world.agents.with(index, agent) };
  }

  /** An append, known again by its content. */
  pending(events: readonly ClusterEvent[], command: Pending["command"] = null): Pending {
    const plain = withoutReasons(events);
    const key = `${command}${JSON.stringify(plain)}`;
    let known = this.#pendings.get(key);
    if (!known) {
      known = { id: this.#pendings.size, events: plain, command };
      this.#pendings.set(key, known);
    }
    return known;
  }

  /** The answer for `key` in this state of the log, computed once. */
  once<T>(state: ClusterState, key: string, compute: () => T): T {
    let answers = this.#answers.get(state);
    if (!answers) {
      answers = new Map();
      this.#answers.set(state, answers);
    }
    if (!answers.has(key)) answers.set(key, compute());
    return answers.get(key) as T;
  }
}
