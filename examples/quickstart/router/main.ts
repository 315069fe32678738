/** The router as a process: `node main.ts PORT PODS_JSON`, where PODS_JSON is a file `{pod: {app, guard}}`. */
import { readFileSync } from "node:fs";
import { type PodAddress, Router } from "./router.ts";

const [port, podsFile] = process.argv.slice(2);
if (port === undefined || podsFile === undefined) throw new Error("usage: main.ts PORT PODS_JSON");
const pods = JSON.parse(readFileSync(podsFile, "utf8")) as Record<string, PodAddress>;
const router = new Router({ pods });
await router.listen(Number(port));
process.on("SIGTERM", () => {
  void router.close().then(() => process.exit(0));
});
