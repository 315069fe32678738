/** Type checker, linter and tests, one after another, with one closing line that counts all of them. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** It runs in a browser, so it is checked with other libraries than everything else. */
const PAGE = "coordinator/dashboard/page";

/**
 * @param {string} root folder of the project
 * @param {string} node executable to run everything with
 * @param {{tests: boolean, vitestArguments: string[]}} options
 * @returns {Promise<number>} exit code: 0 only when nothing failed and something ran
 */
export async function runChecks(root, node, { tests, vitestArguments }) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const program = (file, ...args) => run(root, node, [join(root, "node_modules", file), ...args]);
  const check = async (label, running) => {
    const ok = (await running) === 0;
    counts[ok ? "passed" : "failed"] += 1;
    console.log(`${label}: ${ok ? "ok" : "FAILED"}`);
  };
  if (vitestArguments.length === 0) {
    await check("types", program("typescript/bin/tsc", "--noEmit", "-p", "."));
    await check("types of the dashboard", program("typescript/bin/tsc", "--noEmit", "-p", PAGE));
    await check(
      "format and lint",
      program("@biomejs/biome/bin/biome", "ci", "--no-errors-on-unmatched", "."),
    );
  }
  if (tests) add(counts, await runVitest(program, vitestArguments));
  console.log(
    `${counts.passed} passed, ${counts.failed} failed${counts.skipped > 0 ? `, ${counts.skipped} skipped` : ""}`,
  );
  return counts.failed === 0 && counts.passed > 0 ? 0 : 1;
}

async function runVitest(program, vitestArguments) {
  const folder = mkdtempSync(join(tmpdir(), "cleave-tests-"));
  const outputFile = join(folder, "results.json");
  try {
    const code = await program(
      "vitest/vitest.mjs",
      "run",
      "--reporter=default",
      "--reporter=json",
      `--outputFile.json=${outputFile}`,
      ...vitestArguments,
    );
    return countsOf(readResults(outputFile), code);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Vitest may fail with every test passed (a file that cannot be loaded, an unhandled error): that counts too. */
export function countsOf(results, exitCode) {
  const passed = results?.numPassedTests ?? 0;
  const failedTests = results?.numFailedTests ?? 0;
  const skipped = (results?.numPendingTests ?? 0) + (results?.numTodoTests ?? 0);
  const emptyFailures = (results?.testResults ?? []).filter(
    (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed"),
  ).length;
  const failed = failedTests + emptyFailures;
  return { passed, failed: exitCode !== 0 && failed === 0 ? 1 : failed, skipped };
}

function readResults(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return null;
  }
}

function add(counts, more) {
  for (const key of Object.keys(more)) counts[key] += more[key];
}

function run(root, node, args) {
  return new Promise((done, failed) => {
    const child = spawn(node, args, { cwd: root, stdio: "inherit" });
    for (const signal of ["SIGTERM", "SIGHUP"]) process.once(signal, () => child.kill(signal));
    child.on("error", failed);
    child.on("close", (code) => done(code ?? 1));
  });
}
