/**
 * A process with one mutant in it: runs seeds from `first` on until a checker finds something, and says so in one line
 * of JSON. Arguments: the mutant's name, the first seed, how many at most.
 */
import { mutantNamed } from "./all.ts";
import { loadMutant } from "./mutant.ts";

const [name = "", first = "1", most = "1"] = process.argv.slice(2);
loadMutant(mutantNamed(name));
const { simulate } = await import("../run.ts");

for (let tried = 1; tried <= Number(most); tried++) {
  const report = await simulate({ seed: Number(first) + tried - 1 });
  if (report.verdict === "pass" || report.verdict === "inconclusive") continue;
  const { invariant, message, seed, verdict } = report;
  process.stdout.write(
    `${JSON.stringify({ tried, seed, verdict, invariant, message: message?.slice(0, 300) })}\n`,
  );
  break;
}
process.exit();
