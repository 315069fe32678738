/** What all steps of one exploration share: the configuration, the logs met so far, and duties by number. */
import { dutiesOf, dutyKey } from "../../agent/domain/react.ts";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { MigrationId, PodId } from "../../protocol/ids.ts";
import type { Duty } from "../../protocol/ports/store.ts";
import { type Cluster, MIGRATION_ID, smallCluster } from "./cluster.ts";
import type { Configuration, WrongStep } from "./configuration.ts";
import { LogTree } from "./log-tree.ts";
import type { World } from "./state.ts";

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
  readonly #duties = new WeakMap<ClusterState, Map<string, Duty | null>>();
  readonly #numbers = new Map<string, number>();
  readonly #byNumber: Duty[] = [];

  constructor(configuration: Configuration, wrong: WrongStep | null) {
    this.configuration = configuration;
    this.wrong = wrong;
    this.cluster = smallCluster(configuration);
  }

  /** The Pod's duty on a prefix of the log, as its agent derives it; null: leave everything as it is. */
  dutyOf(state: ClusterState, pod: PodId, released: boolean): Duty | null {
    let known = this.#duties.get(state);
    if (!known) {
      known = new Map();
      this.#duties.set(state, known);
    }
    const key = `${pod} ${released}`;
    let duty = known.get(key);
    if (duty === undefined) {
      const all = dutiesOf(state, pod, this.cluster.assignmentsOf, released ? RELEASED : NOT_RELEASED);
      duty = all[0] ?? null;
      known.set(key, duty);
    }
    return duty;
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
}
