/** A thread that runs one seed after another as it is told to. */
import { parentPort } from "node:worker_threads";
import { simulate } from "./run.ts";
import type { Scenario } from "./scenario.ts";

export interface Task {
  readonly seed: number;
  /** Instead of what the seed draws. */
  readonly scenario?: Scenario;
  readonly faults: boolean;
  readonly coverage: boolean;
}

parentPort?.on("message", (task: Task) => {
  void simulate(task).then((report) => parentPort?.postMessage(report));
});
