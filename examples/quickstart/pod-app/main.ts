/** `node examples/quickstart/pod-app/main.ts OPTIONS.json`: the application of one Pod as a process. */
import { readFileSync } from "node:fs";
import { PodAppOptions } from "./options.ts";
import { startPodApp } from "./server.ts";

const file = process.argv[2];
if (file === undefined) {
  console.error("usage: node examples/quickstart/pod-app/main.ts OPTIONS.json");
  process.exit(2);
}
const app = await startPodApp(PodAppOptions.parse(JSON.parse(readFileSync(file, "utf8"))));
console.error(`the Pod's application listens on port ${app.port}`);
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    void app.close().then(() => process.exit(0));
  });
}
