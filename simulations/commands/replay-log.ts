/** `--replay-log BUNDLE`: the log of a real cluster (`cleave diagnose`), folded by the code that every process folds it with. */
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { gunzipSync } from "node:zlib";
import { decode, encode } from "@msgpack/msgpack";
import tar from "tar-stream";
import { type ClusterState, emptyCluster } from "../../protocol/cluster.ts";
import type { ReadRecord } from "../../protocol/events.ts";
import { evolve } from "../../protocol/evolve.ts";
import { bytesOf } from "../checkers/i08-replay.ts";
import { EXIT_CODES } from "../run.ts";

const MOST_CHECKPOINTS = 200;

type Stored = ReadRecord & { readonly sequence: number };

export interface Bundle {
  readonly records: readonly Stored[];
  /** What the coordinator said when the bundle was written; null when it did not answer. */
  readonly status: {
    readonly sequence: number;
    readonly migrations: readonly { readonly migrationId: string; readonly lifecycle: string }[];
  } | null;
}

/** A bundle, or its `log.jsonl` alone. @throws Error when the log is not in it or does not begin with record 1. */
export async function readBundle(file: string): Promise<Bundle> {
  const files = file.endsWith(".jsonl")
    ? new Map([["log.jsonl", readFileSync(file, "utf8")]])
    : await unpack(file);
  const log = files.get("log.jsonl");
  if (log === undefined) throw new Error(`${file} has no log.jsonl: is it a bundle of cleave diagnose?`);
  const records = log
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Stored);
  for (const [index, { sequence }] of records.entries())
    if (sequence !== index + 1)
      throw new Error(`${file}: record ${sequence} stands where record ${index + 1} should be`);
  const status = files.get("status.json");
  return { records, status: status === undefined ? null : (JSON.parse(status) as Bundle["status"]) };
}

async function unpack(file: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const extract = Readable.from([gunzipSync(readFileSync(file))]).pipe(tar.extract());
  for await (const entry of extract) {
    const parts: Buffer[] = [];
    for await (const part of entry) parts.push(part as Buffer);
    found.set(entry.header.name.replace(/^[^/]+\//, ""), Buffer.concat(parts).toString("utf8"));
  }
  return found;
}

/**
 * Tells the state after each record, and checks I8: from zero and from every checkpoint the same state follows, and it is
 * the one that the coordinator showed. Returns the exit code.
 */
export function replayLog({ records, status }: Bundle, say: (line: string) => void): number {
  const states: ClusterState[] = [emptyCluster];
  for (const record of records) {
    const before = states[record.sequence - 1] as ClusterState;
    const after = evolve(before, record, record.sequence);
    states.push(after);
    const types = record.events.map((event) => (event.type === "Unknown" ? event.event.type : event.type));
    const changes = Object.values(after.migrations).flatMap(({ migrationId, lifecycle }) => {
      const was = before.migrations[migrationId]?.lifecycle;
      return was === lifecycle ? [] : [`${migrationId} ${was === undefined ? "" : `${was} → `}${lifecycle}`];
    });
    const now = changes.length === 0 ? "" : `  ${changes.join(", ")}`;
    say(`${String(record.sequence).padStart(5)}  ${types.join(" + ")}  by ${record.by}${now}`);
  }
  const violations = [
    ...differences(records, states),
    ...disagreements(states.at(-1) as ClusterState, status),
  ];
  for (const violation of violations) say(`I8: ${violation}`);
  const unknown = states.at(-1)?.notUnderstood ?? null;
  if (unknown !== null) say(`this version does not know ${unknown}: replay with the one that wrote it`);
  say(
    violations.length === 0
      ? `${records.length} records, from zero and from checkpoints to the same state`
      : `${violations.length} violations of I8`,
  );
  return violations.length === 0 ? EXIT_CODES.pass : EXIT_CODES.safety;
}

function differences(records: readonly Stored[], states: readonly ClusterState[]): string[] {
  const expected = bytesOf(states.at(-1) as ClusterState);
  // Folding from each of many checkpoints costs the square of their number.
  const step = Math.max(1, Math.ceil(records.length / MOST_CHECKPOINTS));
  return states.slice(0, -1).flatMap((checkpoint, from) => {
    if (from % step !== 0) return [];
    // As a process reads it back from its disk.
    let state = decode(encode(checkpoint)) as ClusterState;
    for (const record of records.slice(from)) state = evolve(state, record, record.sequence);
    return bytesOf(state) === expected
      ? []
      : [`folded from the checkpoint after record ${from}, the log gives another state`];
  });
}

/** The coordinator may have been a record further, or behind: only what it said of the very same record counts. */
function disagreements(end: ClusterState, status: Bundle["status"]): string[] {
  if (status === null || status.sequence !== end.sequence) return [];
  return status.migrations.flatMap(({ migrationId, lifecycle }) => {
    const folded = end.migrations[migrationId as keyof typeof end.migrations]?.lifecycle ?? "unknown";
    return folded === lifecycle
      ? []
      : [`the coordinator showed ${migrationId} as ${lifecycle}, the log says ${folded}`];
  });
}
