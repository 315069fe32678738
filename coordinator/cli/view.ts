/** One migration on one screen: where it is, who is ready, what it waits for, what may be done next. */
import { stripVTControlCharacters } from "node:util";
import Table from "cli-table3";
import type { Finding } from "../../protocol/evidence.ts";
import { counted, formatAmount } from "../../protocol/wording.ts";
import type { ClusterStatus, MigrationStatus, PodStatus, StoreView } from "../api/ports.ts";
import { scrubLines } from "../domain/read-back.ts";
import { storeLabel } from "../domain/wording.ts";
import pc from "./colors.ts";
import { duration, plain, wrapped } from "./format.ts";

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
const BAR_CELLS = 8;
/** Three of them, the Pod's name with its role, and gaps of two fit into 80 columns. */
const CELL_COLUMNS = 15;
const POD_COLUMNS = 16;
const FINDING_COLUMNS = 8;

export function clusterView(status: ClusterStatus): string {
  const nats = status.connected ? "" : `${pc.red("NATS does not answer the coordinator")}\n\n`;
  const pods = status.pods.map((pod) => {
    const age = pod.lastReportAgeMs;
    const word =
      age === null
        ? pc.red("never reported")
        : age > 5_000
          ? pc.red(`silent for ${duration(age)}`)
          : pod.problems.length > 0
            ? pc.red("reporting a problem")
            : pc.green("reporting");
    const problems = pod.problems.map(
      ({ code, message }) =>
        `\n${" ".repeat(LABEL_COLUMNS)}${wrapped(plain(`${code}: ${message}`), LABEL_COLUMNS)}`,
    );
    return `  ${pod.podId.padEnd(20)} ${word}${problems.join("")}`;
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
    "",
    ...labelled(pc.yellow("read-only"), windowLines(status, now)),
    ...labelled(pc.yellow("WAL"), walLines(status)),
    ...labelled("read back", scrubLines(status, duration)),
    ...labelled(pc.yellow("paused"), status.paused ? [`for ${duration(now - status.paused.at)}`] : []),
    ...labelled(pc.yellow("straggler"), stragglersOf(status)),
    ...labelled("last", status.reason ? [status.reason] : []),
    ...(status.findings.length > 0 ? [findingsView(status.findings)] : []),
    ...labelled("time left", estimateLines(status)),
    ...labelled(pc.cyan("waiting for"), status.waitingFor),
    ...labelled("next", commandLines(status)),
  ];
  return lines.join("\n");
}

const LABEL_COLUMNS = 12;

/** `label  text`, each text on lines of its own that fit, the label before the first. */
function labelled(label: string, texts: readonly string[]): string[] {
  return texts.map((text, index) => {
    const name = index === 0 ? label : "";
    const gap = " ".repeat(Math.max(1, LABEL_COLUMNS - stripVTControlCharacters(name).length));
    return `${name}${gap}${wrapped(plain(text), LABEL_COLUMNS)}`;
  });
}

/** Since when, and until when at most. */
function windowLines({ fence }: MigrationStatus, now: number): string[] {
  if (fence === null) return [];
  const [upMs, leftMs] = [now - fence.raisedAt, fence.deadlineAt - now];
  const left = leftMs > 0 ? `deadline in ${duration(leftMs)}` : "its deadline has passed";
  return [
    `for ${duration(upMs)}, epoch ${fence.epoch}, at most ${duration(fence.deadlineAt - fence.raisedAt)}: ${left}`,
  ];
}

function estimateLines({ estimate }: MigrationStatus): string[] {
  if (estimate === null) return [];
  return estimate.leftMs === null
    ? [`no estimate yet: ${estimate.basis}`]
    : [`about ${duration(estimate.leftMs)} (${estimate.basis})`];
}

/** From half of the budget on, or of what is worth knowing without one. */
const WORTH_SAYING_BYTES = 1_000_000_000;

function walLines({ sourcePodId, wal }: MigrationStatus): string[] {
  if (!wal || wal.keptBytes < (wal.budgetBytes === null ? WORTH_SAYING_BYTES : wal.budgetBytes / 2))
    return [];
  const budget = wal.budgetBytes === null ? "no budget" : `budget ${formatAmount(wal.budgetBytes, "bytes")}`;
  return [`${sourcePodId} keeps ${formatAmount(wal.keptBytes, "bytes")} for the slowest target, ${budget}`];
}

/** `●●●◉○○○○○○○  seeding → [following] → ready`: the whole way, and what is near. */
function pathLine(lifecycle: string): string {
  const at = PATH.indexOf(lifecycle === "transferring" ? "activating" : lifecycle);
  if (at < 0) return pc.red(pc.bold(lifecycle));
  const dots = PATH.map((_, index) =>
    index < at ? pc.green("●") : index === at ? pc.bold("◉") : pc.dim("○"),
  ).join("");
  const near = [
    ...(at > 0 ? [pc.green(PATH[at - 1])] : []),
    pc.bold(`[${lifecycle}]`),
    ...(at + 1 < PATH.length ? [pc.dim(PATH[at + 1])] : []),
  ];
  return `${dots}  ${near.join(pc.dim(" → "))}`;
}

function matrix(status: MigrationStatus): string {
  const stores = ["postgres", "git", "objects"] as const;
  // A move copies rows, not the server's WAL.
  const heads = stores.map((store) =>
    status.kind === "move" && store === "postgres" ? "rows" : storeLabel(store),
  );
  const table = new Table({
    head: ["Pod", ...heads],
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    chars: PLAIN,
  });
  for (const pod of status.pods) {
    table.push([
      `${shortened(pod.podId, POD_COLUMNS)} (${shareWord(pod, status)})`,
      ...stores.map((store) => cell(pod.stores[store] ?? null, pod.role)),
    ]);
  }
  return table.toString().replace(/ +$/gm, "");
}

/** A Pod's name may have 40 characters; what tells two apart is at either end. */
function shortened(text: string, columns: number): string {
  if (text.length <= columns) return text;
  const head = Math.ceil((columns - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (columns - 1 - head))}`;
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

/** What may be done next, each as it can be typed. */
function commandLines({
  migrationId,
  possibleCommands,
  pods,
  reverseReplication,
}: MigrationStatus): string[] {
  const flowing = reverseReplication.filter(({ givenUp }) => givenUp === null).map(({ podId }) => podId);
  return possibleCommands.flatMap((command) => {
    const line = `cleave ${command} ${migrationId}`;
    if (command === "revoke") {
      const closed = pods.filter(({ role, share }) => role === "target" && share === "closed");
      return closed.map(({ podId }) => `${line} ${podId} --reason "…"`);
    }
    if (command === "rollback") return flowing.map((podId) => `${line} --pod ${podId}`);
    if (command === "giveUp")
      return flowing.map((podId) => `cleave give-up ${migrationId} ${podId} --reason "…"`);
    if (command === "finalize") return [`${line} --dry-run`, line];
    return [command === "abort" || command === "pause" ? `${line} --reason "…"` : line];
  });
}

function cell(view: StoreView | null, role: "source" | "target"): string {
  if (view === null) return pc.dim("–");
  if (view.problems.length > 0) return pc.red((view.problems[0]?.code ?? "problem").slice(0, CELL_COLUMNS));
  if (view.matched === true) return pc.green("equal");
  if (view.matched === false) return pc.red("DIFFERS");
  if (!view.reached && view.progress) return bar(view.progress.done, view.progress.total);
  if (!view.reached) return pc.yellow(view.state);
  if (role === "source" || view.lag === null || view.state === "serving" || view.state === "promoting")
    return pc.green(view.state);
  if (view.lag.amount === null) return pc.yellow("lag unknown");
  if (view.lag.amount > 0) return `${short(view.lag.amount, view.lag.unit)} behind`;
  if (view.verified) return pc.green("level");
  const { scrub } = view;
  if (scrub === undefined || scrub.passes > 0 || scrub.items === 0) return pc.yellow("verifying");
  return pc.yellow(`read ${Math.floor((100 * (scrub.items - scrub.unread)) / scrub.items)} %`);
}

/** The head of the column says what is counted. */
function short(amount: number, unit: string): string {
  return unit === "bytes" ? formatAmount(amount, unit) : String(amount);
}

function bar(done: number, total: number): string {
  const share = total === 0 ? 0 : Math.min(1, done / total);
  const full = Math.round(share * BAR_CELLS);
  return `${"█".repeat(full)}${"░".repeat(BAR_CELLS - full)} ${Math.floor(share * 100)} %`;
}

export function findingsView(findings: readonly Finding[]): string {
  const mark = { error: pc.red("error  "), warning: pc.yellow("warning"), info: pc.dim("info   ") };
  return findings
    .map(
      (finding) =>
        `${mark[finding.severity]} ${wrapped(`${finding.code}: ${plain(finding.message)}`, FINDING_COLUMNS)}`,
    )
    .join("\n");
}

/** A table without lines, columns two spaces apart. */
export const PLAIN = {
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
