/** What the assistant proposes, side by side. */
import Table from "cli-table3";
import { counted, formatAmount } from "../../protocol/wording.ts";
import type { Figure, Proposal, Way } from "../plans/proposal.ts";
import pc from "./colors.ts";
import { duration, plain, wrapped } from "./format.ts";
import { PLAIN } from "./view.ts";

const bytes = (amount: number) => formatAmount(Math.round(amount), "bytes");
const time = ({ value }: Figure) => (value === null ? "not known" : duration(value));

export function proposalView(proposal: Proposal, kind: "split" | "move", written: readonly string[]): string {
  const { source, targets, split, moves } = proposal;
  return [
    balance([source, ...targets]),
    "",
    costs(split, moves),
    "",
    ...[
      `time as a split: ${split.copyMs.basis}`,
      `time as moves: ${moves.copyMs.basis}`,
      `read-only as a split: ${split.windowMs.basis}`,
      `read-only as moves: ${moves.windowMs.basis}`,
      ...weighed(split, moves, targets.length),
      ...proposal.remarks,
    ].map((line) => `- ${wrapped(plain(line), 2)}`),
    "",
    ...(written.length === 0
      ? [pc.dim("nothing was written; write the plan with --output FILE")]
      : written.map((file) => `written: ${file}; next: cleave ${kind} ${file} --dry-run`)),
  ].join("\n");
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const drawn = new Table({
    head: [...head],
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    chars: PLAIN,
    colAligns: ["left", ...head.slice(1).map(() => "right" as const)],
  });
  for (const row of rows) drawn.push([...row]);
  return drawn.toString().replace(/ +$/gm, "");
}

function balance(shares: readonly Proposal["source"][]): string {
  return table(
    ["Pod", "share", "organizations", "bytes", "rows", "repositories", "writes/s"],
    shares.map(({ podId, weight, organizations, load }, index) => [
      index === 0 ? `${podId} (stays)` : podId,
      `${(weight * 100).toFixed(1)} %`,
      String(organizations.length),
      bytes(load.bytes),
      String(Math.round(load.rows)),
      String(load.repositories),
      load.writesPerSecond.toFixed(1),
    ]),
  );
}

function costs(split: Way, moves: Way): string {
  const rows: [string, (way: Way) => string][] = [
    ["migrations", (way) => String(way.migrations)],
    ["copied in all", (way) => bytes(way.copiedBytes)],
    ["on the fullest target", (way) => bytes(way.targetBytes)],
    ["removed in the end", (way) => bytes(way.removedBytes)],
    ["copying takes", (way) => time(way.copyMs)],
    ["read-only for", (way) => time(way.windowMs)],
  ];
  return table(
    ["", "as a split", "as moves"],
    rows.map(([name, of]) => [name, of(split), of(moves)]),
  );
}

/** For and against, with the measured numbers; which weighs more is the operator's to say. */
function weighed(split: Way, moves: Way, targets: number): string[] {
  const more = split.copiedBytes - moves.copiedBytes;
  return [
    `for a split: ${counted(targets, "target")} in one migration and one read-only moment; against: targets have to be new and empty, and ${bytes(Math.max(0, more))} more ${more === 1 ? "is" : "are"} copied`,
    `for moves: targets may serve others already, and each needs ${bytes(moves.targetBytes)} at most; against: ${counted(targets, "migration")}, one after the other, and rows are copied one by one instead of as files`,
  ];
}
