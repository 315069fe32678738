/** Numbers and states in words. Pure. */
import type { Finding, ReverseReplicationStatus } from "../../../../protocol/evidence.ts";
import { formatAmount } from "../../../../protocol/wording.ts";
import type { MigrationStatus, PodStatus, StoreView } from "../../../api/ports.ts";

/** `950 ms`, `12.3 s`, `4 min 5 s`, `2 h 3 min`, `3 d 4 h`. */
export function duration(ms: number): string {
  if (ms < 999.5) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  const hours = Math.round(minutes / 60);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** In whole seconds, for what changes while one looks: `3 s`, `4 min 5 s`. */
export function age(ms: number): string {
  return ms < 60_000 ? `${Math.max(0, Math.floor(ms / 1_000))} s` : duration(Math.floor(ms / 1_000) * 1_000);
}

/** `12:03:04.567` of that day, in the reader's own time zone. */
export function clockTime(at: number): string {
  const date = new Date(at);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** `2026-11-03 12:03:04` in the reader's own time zone. */
export function dayAndTime(at: number): string {
  const date = new Date(at);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clockTime(at).slice(0, 8)}`;
}

export type Tone = "good" | "busy" | "bad" | "quiet";

export interface Cell {
  readonly tone: Tone;
  readonly text: string;
  /** What more there is to say: what is wrong, in whole sentences. */
  readonly details: readonly string[];
  /** 0 to 1 while something long is under way. */
  readonly progress: number | null;
}

/** One store of one Pod: equal, how far, how far behind, or what is wrong. */
export function cellOf(view: StoreView | null | undefined, role: PodStatus["role"]): Cell {
  const cell = (tone: Tone, text: string, progress: number | null = null): Cell => ({
    tone,
    text,
    progress,
    details: view
      ? [...view.problems.map(({ code, message }) => `${code}: ${message}`), ...stragglers(view)]
      : [],
  });
  if (!view) return cell("quiet", "not reported");
  const { problems, matched, reached, progress, lag, state, verified } = view;
  if (problems.length > 0) return cell("bad", "problem");
  if (matched === true) return cell("good", "equal");
  if (matched === false) return cell("bad", "differs");
  if (!reached && progress !== null) {
    const share = progress.total === 0 ? 0 : Math.min(1, progress.done / progress.total);
    const { done, total, unit } = progress;
    return cell("busy", `${state}: ${formatAmount(done, unit)} of ${formatAmount(total, unit)}`, share);
  }
  if (!reached) return cell("busy", state);
  if (role === "source" || lag === null || state === "serving" || state === "promoting")
    return cell("good", state);
  if (lag.amount === null) return cell("busy", "lag unknown");
  if (lag.amount > 0)
    return cell("busy", `${formatAmount(lag.amount, lag.unit)} behind${verified ? "" : ", verifying"}`);
  return verified ? cell("good", "level, verified") : cell("busy", "level, verifying");
}

/** One store's way back, as the source sees it. */
export function reverseReplicationCellOf({ lag, verified, problem }: ReverseReplicationStatus): Cell {
  const cell = (tone: Tone, text: string, details: readonly string[] = []): Cell => ({
    tone,
    text,
    details,
    progress: null,
  });
  if (problem !== null) return cell("bad", "problem", [`${problem.code}: ${problem.message}`]);
  if (lag.amount === null) return cell("busy", "lag unknown");
  if (lag.amount > 0) return cell("busy", `${formatAmount(lag.amount, lag.unit)} behind`);
  return verified ? cell("good", "level, verified") : cell("busy", "level, verifying");
}

function stragglers(view: StoreView): string[] {
  return view.stragglers.map((text) => `straggler: ${text}`);
}

/** What a Pod is for a migration now. */
export function shareWord(
  pod: PodStatus,
  transferred: boolean,
): { readonly tone: Tone; readonly text: string } {
  if (pod.role === "source") return { tone: "quiet", text: "source" };
  if (pod.share === "opened") return { tone: "good", text: "serves" };
  if (pod.share === "revoked") return { tone: "bad", text: "went back" };
  return transferred ? { tone: "busy", text: "opening" } : { tone: "quiet", text: "target" };
}

const ENDED_BADLY: readonly string[] = ["refused", "aborted"];
const NO_WRITES: readonly string[] = ["fencing", "matching", "transferring", "activating"];

export function toneOf(migration: Pick<MigrationStatus, "lifecycle" | "paused">): Tone {
  if (migration.paused !== null) return "busy";
  if (ENDED_BADLY.includes(migration.lifecycle)) return "bad";
  if (NO_WRITES.includes(migration.lifecycle)) return "busy";
  return migration.lifecycle === "completed" ? "quiet" : "good";
}

/** The worst first: at night the first line is read. */
export function worstFirst(findings: readonly Finding[]): Finding[] {
  const order = { error: 0, warning: 1, info: 2 };
  return [...findings].sort((a, b) => order[a.severity] - order[b.severity]);
}
