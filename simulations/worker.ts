/** A thread that runs one seed after another as it is told to. */
import { parentPort } from "node:worker_threads";
import { simulate } from "./run.ts";

export interface Task {
  readonly seed: number;
  readonly faults: boolean;
  readonly coverage: boolean;
}

parentPort?.on("message", (task: Task) => {
  void simulate(task).then((report) => parentPort?.postMessage(report));
});
