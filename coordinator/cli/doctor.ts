/** `doctor`: what is wrong with an installation, and what to do about it; the part that needs no Pod's machine. */
import { readFile, stat } from "node:fs/promises";
import type { Command } from "commander";
import { ERRORS, type ErrorCode, toCleaveError } from "../../protocol/errors.ts";
import type { Finding } from "../../protocol/evidence.ts";
import type { ClusterStatus } from "../api/ports.ts";
import { type CoordinatorConfig, loadCoordinatorConfig } from "../config.ts";
import pc from "./colors.ts";
import { type Context, examples } from "./context.ts";
import { EXIT } from "./exit.ts";
import { duration, plain, wrapped } from "./format.ts";

/** As the coordinator counts a voter as missing. */
const SILENT_MS = 5_000;
const SKEW_WARNING_MS = 1_000;

const found = (severity: Finding["severity"], code: string, message: string): Finding => ({
  store: null,
  severity,
  code,
  message,
});

type CheckNats = (config: CoordinatorConfig["nats"]) => Promise<readonly Finding[]>;

export function registerDoctorCommand(program: Command, context: Context, checkNats: CheckNats): void {
  program
    .command("doctor")
    .option(
      "--config <file>",
      "the coordinator's configuration: its secrets' files and its NATS are checked too",
    )
    .option("--agent-config <file>", "on a Pod's machine: check that Pod instead (has its own --help)")
    .description("check an installation and say what to do: coordinator, NATS, every agent; changes nothing")
    .addHelpText(
      "after",
      examples(
        "doctor",
        "doctor --config /etc/cleave/coordinator.yaml",
        "doctor --agent-config /etc/cleave/agent.yaml     # PostgreSQL, Git, objects, disks, peers",
      ),
    )
    .action(async (options: { config?: string }) => {
      const findings = [
        ...(await checkCoordinator(context)),
        ...(options.config === undefined ? [] : await checkConfig(options.config, checkNats)),
      ];
      const failed = findings.some(({ severity }) => severity === "error");
      const verdict = failed ? pc.red("something has to be put right") : pc.green("no error was found");
      context.print({ ok: !failed, findings }, `${findings.map(findingText).join("\n")}\n${verdict}`);
      process.exitCode = failed ? EXIT.refused : EXIT.ok;
    });
}

function findingText({ severity, code, message }: Finding): string {
  if (severity === "info") return `${pc.green("ok     ")} ${wrapped(plain(message), 8)}`;
  const mark = severity === "error" ? pc.red("error  ") : pc.yellow("warning");
  const step = Object.hasOwn(ERRORS, code) ? ERRORS[code as ErrorCode][1] : "see docs/errors.md";
  const next = wrapped(`next: ${step}`, 8);
  return `${mark} ${wrapped(`${code}: ${plain(message)}`, 8)}\n        ${pc.dim(next)}`;
}

async function checkCoordinator(context: Context): Promise<Finding[]> {
  const askedAt = Date.now();
  let status: ClusterStatus;
  try {
    status = await context.client().status();
  } catch (error) {
    const known = toCleaveError(error);
    return [found("error", known.code, known.message)];
  }
  const skewMs = Math.abs(status.at - (askedAt + Date.now()) / 2);
  const own = await ownVersion();
  const others = new Set(
    status.pods.flatMap(({ software }) => (software === null || software === own ? [] : [software])),
  );
  return [
    found("info", "COORDINATOR_UNREACHABLE", `the coordinator answers; record ${status.sequence} of the log`),
    ...(status.connected
      ? []
      : [found("error", "NATS_UNREACHABLE", "the coordinator has no connection to NATS")]),
    ...(skewMs > SKEW_WARNING_MS
      ? [found("warning", "CLOCK_SKEW", `the coordinator's clock and this one differ by ${duration(skewMs)}`)]
      : []),
    ...status.pods.map(({ podId, lastReportAgeMs, software }) => {
      if (lastReportAgeMs === null)
        return found("error", "AGENT_SILENT", `${podId}: its agent has never reported to this coordinator`);
      return lastReportAgeMs > SILENT_MS
        ? found(
            "error",
            "AGENT_SILENT",
            `${podId}: its agent has been silent for ${duration(lastReportAgeMs)}`,
          )
        : found("info", "AGENT_SILENT", `${podId}: its agent reports, version ${software}`);
    }),
    ...status.pods.flatMap(({ podId, problems }) =>
      problems.map(({ code, message }) => found("error", code, `${podId}: ${message}`)),
    ),
    ...[...others].map((version) =>
      found("warning", "MESSAGE_VERSION_UNKNOWN", `an agent runs version ${version}, this command is ${own}`),
    ),
  ];
}

async function checkConfig(file: string, checkNats: CheckNats): Promise<Finding[]> {
  try {
    const config = await loadCoordinatorConfig(file);
    const secrets = [file, config.nats.passwordFile, config.nats.tokenFile];
    const open = await Promise.all(secrets.map((one) => (one === undefined ? [] : checkMode(one))));
    return [
      found("info", "CONFIG_INVALID", `${file} is in order`),
      ...open.flat(),
      ...(await checkNats(config.nats)),
    ];
  } catch (error) {
    const known = toCleaveError(error, "CONFIG_INVALID");
    return [found("error", known.code, known.message)];
  }
}

/** A configuration file counts only where a secret stands in it. */
async function checkMode(file: string): Promise<Finding[]> {
  const { mode } = await stat(file);
  const holds = !/\.ya?ml$/.test(file) || /^\s*(token|password)\s*:/m.test(await readFile(file, "utf8"));
  if (!holds || (mode & 0o077) === 0) return [];
  return [
    found(
      "warning",
      "SECRET_READABLE",
      `${file} can be read by others than its owner: mode ${(mode & 0o777).toString(8)}`,
    ),
  ];
}

async function ownVersion(): Promise<string> {
  const text = await readFile(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
