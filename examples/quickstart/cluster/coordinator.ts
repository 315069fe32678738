/** The coordinator as an operator uses it: its HTTP API for looking, its command for deciding. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { request } from "undici";
import type { ClusterStatus, MigrationStatus } from "../../../coordinator/api/ports.ts";
import { EXIT } from "../../../coordinator/cli/exit.ts";
import type { ReadRecord } from "../../../protocol/events.ts";
import type { Layout } from "./layout.ts";

/** A coordinator that was restarted answers again within this time, on a busy machine too. */
const PATIENCE_MS = 60_000;
const AGAIN_MS = 100;

const run = promisify(execFile);
const CLEAVE = join(import.meta.dirname, "../../../coordinator/cli/main.ts");

export type LoggedEvent = ReadRecord["events"][number] & { readonly at: number };

export class Coordinator {
  readonly #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  /**
   * Runs `cleave …` and returns what it printed; like an operator again when the coordinator went away before it had
   * answered. That it may have decided before shows in the refusal of the second time.
   * @throws Error with what it said when it fails
   */
  async cleave(...args: string[]): Promise<string> {
    const end = performance.now() + PATIENCE_MS;
    for (let again = false; ; again = true) {
      const ended = await this.#runCleave(args);
      if (ended.code === EXIT.ok || (again && ended.said.includes("ORGANIZATION_CLAIMED"))) return ended.said;
      if (ended.code !== EXIT.unreachable || performance.now() > end)
        throw new Error(`cleave ${args.join(" ")} failed:\n${ended.said}`);
      await sleep(AGAIN_MS);
    }
  }

  async #runCleave(args: readonly string[]): Promise<{ readonly code: unknown; readonly said: string }> {
    const env = { ...process.env, ...this.environment() };
    try {
      return { code: EXIT.ok, said: (await run(process.execPath, [CLEAVE, ...args], { env })).stdout };
    } catch (error) {
      const { code, stderr, stdout } = error as { code?: unknown; stderr?: string; stdout?: string };
      return { code, said: (stderr || stdout || String(error)).trim() };
    }
  }

  /** What a shell needs for using `cleave` with this cluster. */
  environment(): { CLEAVE_URL: string; CLEAVE_TOKEN: string } {
    return { CLEAVE_URL: this.#layout.coordinatorUrl, CLEAVE_TOKEN: this.#layout.token };
  }

  async status(): Promise<ClusterStatus> {
    return (await this.#get("/v1/status")) as ClusterStatus;
  }

  async migration(migrationId: string): Promise<MigrationStatus> {
    const found = (await this.status()).migrations.find((item) => item.migrationId === migrationId);
    if (found === undefined) throw new Error(`the coordinator does not know ${migrationId}`);
    return found;
  }

  /** All events of the log so far, each with the time of its record. */
  async events(): Promise<LoggedEvent[]> {
    const result: LoggedEvent[] = [];
    for (let after = 0; ; ) {
      const page = (await this.#get(`/v1/events?after=${after}&limit=500`)) as {
        records: (ReadRecord & { sequence: number })[];
      };
      for (const record of page.records) {
        for (const event of record.events) result.push({ ...event, at: record.at });
        after = record.sequence;
      }
      if (page.records.length === 0) return result;
    }
  }

  /** Asks again while the coordinator is away. */
  async #get(path: string): Promise<unknown> {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        return await this.#getOnce(path);
      } catch (error) {
        if (performance.now() > end) throw error;
        await sleep(AGAIN_MS);
      }
    }
  }

  async #getOnce(path: string): Promise<unknown> {
    const response = await request(`${this.#layout.coordinatorUrl}${path}`, {
      headers: { authorization: `Bearer ${this.#layout.token}` },
      signal: AbortSignal.timeout(5_000),
    });
    const body = await response.body.text();
    if (response.statusCode !== 200) throw new Error(`${path}: ${response.statusCode} ${body.slice(0, 300)}`);
    return JSON.parse(body);
  }
}
