/** One migration on one screen: where it is, who is ready, what it waits for, what may be done next. */
import Table from "cli-table3";
import type { Finding } from "../../protocol/evidence.ts";
import { counted, formatAmount } from "../../protocol/wording.ts";
import { storeLabel } from "../domain/wording.ts";
import type { ClusterStatus, MigrationStatus, PodStatus, StoreView } from "../ports.ts";
import pc from "./colors.ts";
import { duration, plain } from "./format.ts";

const PATH = [
  "planned",
  "preflight",
  "seeding",
  "following",
  "ready",
  "fencing",
  "matching",
  "activating",
  "retaining",
  "cleaning",
  "completed",
];
const BAR_CELLS = 12;

export function clusterView(status: ClusterStatus): string {
  const nats = status.connected ? "" : `${pc.red("NATS does not answer the coordinator")}\n\n`;
  const pods = status.pods.map((pod) => {
    const age = pod.lastReportAgeMs;
    const word =
      age === null
        ? pc.red("never reported")
        : age > 5_000
          ? pc.red(`silent for ${duration(age)}`)
          : pc.green("reporting");
    return `  ${pod.podId.padEnd(20)} ${word}`;
  });
  const migrations = status.migrations.map((one) => `${migrationView(one, status.at)}\n`);
  const none = `No migrations. ${pc.dim("Begin with: cleave plan FILE")}\n`;
  return `${nats}${pc.bold("Pods")}\n${pods.join("\n")}\n\n${migrations.length === 0 ? none : migrations.join("\n")}`;
}

export function migrationView(status: MigrationStatus, now: number): string {
  const lines = [
    `${pc.bold(status.migrationId)}  ${status.kind} of ${status.sourcePodId}, ${counted(status.organizations, "organization")}`,
    pathLine(status.lifecycle),
    "",
    matrix(status),
  ];
  if (status.fence) {
    const upMs = now - status.fence.raisedAt;
    lines.push(
      `${pc.yellow("read-only")} for ${duration(upMs)}, epoch ${status.fence.epoch}, at most ${duration(status.fence.deadlineAt - status.fence.raisedAt)}`,
    );
  }
  const wal = walLine(status);
  if (wal !== null) lines.push(wal);
  if (status.paused) lines.push(`${pc.yellow("paused")} for ${duration(now - status.paused.at)}`);
  for (const straggler of stragglersOf(status)) lines.push(`${pc.yellow("straggler")} ${plain(straggler)}`);
  if (status.reason) lines.push(`last: ${plain(status.reason)}`);
  if (status.findings.length > 0) lines.push(findingsView(status.findings));
  if (status.waitingFor.length > 0)
    lines.push(...status.waitingFor.map((reason) => `${pc.cyan("waiting for")} ${plain(reason)}`));
  if (status.possibleCommands.length > 0) {
    lines.push(
      pc.dim(
        `possible: ${status.possibleCommands.map((command) => `${commandLine(command, status.migrationId)}`).join(", ")}`,
      ),
    );
  }
  return lines.join("\n");
}

/** From half of the budget on, or of what is worth knowing without one. */
const WORTH_SAYING_BYTES = 1_000_000_000;

function walLine({ sourcePodId, wal }: MigrationStatus): string | null {
  if (!wal || wal.keptBytes < (wal.budgetBytes === null ? WORTH_SAYING_BYTES : wal.budgetBytes / 2))
    return null;
  const budget = wal.budgetBytes === null ? "no budget" : `budget ${formatAmount(wal.budgetBytes, "bytes")}`;
  return `${pc.yellow("WAL")} ${sourcePodId} keeps ${formatAmount(wal.keptBytes, "bytes")} for the slowest target, ${budget}`;
}

function pathLine(lifecycle: string): string {
  if (!PATH.includes(lifecycle)) return pc.red(pc.bold(lifecycle));
  const at = PATH.indexOf(lifecycle);
  return PATH.map((name, index) =>
    index < at ? pc.green(name) : index === at ? pc.bold(pc.inverse(` ${name} `)) : pc.dim(name),
  ).join(pc.dim(" → "));
}

function matrix(status: MigrationStatus): string {
  const stores = ["postgres", "git", "objects"] as const;
  const table = new Table({
    head: ["Pod", ...stores.map(storeLabel)],
    style: { head: [], border: [] },
    chars: PLAIN,
  });
  for (const pod of status.pods) {
    table.push([
      `${pod.podId} (${shareWord(pod, status)})`,
      ...stores.map((store) => cell(pod.stores[store] ?? null, pod.role)),
    ]);
  }
  return table.toString();
}

function shareWord(pod: PodStatus, status: MigrationStatus): string {
  if (pod.role === "source") return "source";
  if (pod.share === "opened") return pc.green("serves");
  if (pod.share === "revoked") return pc.red("went back");
  return status.transfer === null ? "replica" : pc.yellow("opening");
}

function stragglersOf(status: MigrationStatus): string[] {
  return status.pods.flatMap((pod) =>
    Object.values(pod.stores).flatMap(
      (view) => view?.stragglers.map((text) => `${pod.podId}: ${text}`) ?? [],
    ),
  );
}

/** As it can be typed. */
function commandLine(command: string, migrationId: string): string {
  const rest = { revoke: " POD --reason …", abort: " --reason …", pause: " --reason …" }[command] ?? "";
  return `cleave ${command} ${migrationId}${rest}`;
}

function cell(view: StoreView | null, role: "source" | "target"): string {
  if (view === null) return pc.dim("–");
  if (view.problems.length > 0) return pc.red(view.problems[0]?.code ?? "problem");
  if (view.matched === true) return pc.green("equal");
  if (view.matched === false) return pc.red("DIFFERS");
  if (!view.reached && view.progress) return bar(view.progress.done, view.progress.total, view.progress.unit);
  if (!view.reached) return pc.yellow(view.goal);
  if (role === "source" || view.lag === null || view.goal === "open" || view.goal === "activate")
    return pc.green(view.goal);
  if (view.lag.amount === null) return pc.yellow("lag unknown");
  const lag =
    view.lag.amount === 0 ? pc.green("level") : `${formatAmount(view.lag.amount, view.lag.unit)} behind`;
  return view.verified ? lag : `${lag}, ${pc.yellow("verifying")}`;
}

function bar(done: number, total: number, unit: string): string {
  const share = total === 0 ? 0 : Math.min(1, done / total);
  const full = Math.round(share * BAR_CELLS);
  return `${"█".repeat(full)}${"░".repeat(BAR_CELLS - full)} ${formatAmount(done, unit)} of ${formatAmount(total, unit)}`;
}

export function findingsView(findings: readonly Finding[]): string {
  const mark = { error: pc.red("error  "), warning: pc.yellow("warning"), info: pc.dim("info   ") };
  return findings
    .map((finding) => `${mark[finding.severity]} ${finding.code}: ${plain(finding.message)}`)
    .join("\n");
}

const PLAIN = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "  ",
};
