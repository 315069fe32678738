/** The change stream of a move, kept running: begun again after every failure, from where the target is. */
import { setTimeout as sleep } from "node:timers/promises";
import { CleaveError, type ErrorCode } from "../../../../protocol/errors.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import { Conditions } from "../../common/conditions.ts";
import { type FollowOptions, follow } from "../replication/follow.ts";
import { parseLsn } from "../replication/pgoutput.ts";
import { describeEndpoint, toPostgresError } from "../server/connection.ts";
import { sqlStateOf } from "../server/queryable.ts";

const RETRY_MS = 200;
/** What an operator has to look at does not go away by itself within moments. */
const LASTING: ReadonlySet<ErrorCode> = new Set([
  "MEMBERSHIP_CHANGED",
  "CHANGE_NOT_APPLICABLE",
  "COMMAND_NOT_POSSIBLE",
]);
const SCHEMA: ReadonlySet<ErrorCode> = new Set([
  "SCHEMA_DIFFERS",
  "OWNERSHIP_RULE_MISSING",
  "OWNERSHIP_RULE_INVALID",
]);
const LASTING_RETRY_MS = 5_000;
const INSUFFICIENT_PRIVILEGE = "42501";
/** The one in whose hands it is to end a wait may be a deployment's script. */
const SCHEMA_RETRY_MS = 100;
/** A transaction is in the stream a moment before everybody sees it; long before, when a standby has to confirm it. */
const SEEN_AFTER_MS = { first: 10, last: 500 } as const;

export type FollowerOptions = Omit<
  FollowOptions,
  "signal" | "onApplied" | "onMarker" | "onRefused" | "moving" | "changes"
> & {
  /** Asked whenever the stream is begun: what it moves by the schema of this moment. */
  readonly plan: () => Promise<Pick<FollowOptions, "moving" | "changes">>;
  readonly log: Logger;
};

/** The row that the source's fence writes. */
export interface Marker {
  readonly token: string;
  readonly verified: string | null;
  readonly schema_generation: string | null;
}

/** Columns, tables or types that are not (any more) as the plan has them: the next one knows. */
function isOfAnotherSchema(cause: unknown): boolean {
  const state = sqlStateOf(cause) ?? "";
  return state.startsWith("42") && state !== INSUFFICIENT_PRIVILEGE;
}

function pauseAfter({ code, cause }: CleaveError): number {
  if (SCHEMA.has(code) || isOfAnotherSchema(cause)) return SCHEMA_RETRY_MS;
  return LASTING.has(code) ? LASTING_RETRY_MS : RETRY_MS;
}

export class Follower {
  readonly #options: FollowerOptions;
  readonly #stopping = new AbortController();
  readonly #conditions = new Conditions();
  #running: Promise<void> | null = null;
  #applied: string | null = null;
  #problem: CleaveError | null = null;
  /** The transaction of the source that could not be applied: until it is, the problem is not over. */
  #refusedAt: string | null = null;
  readonly #markers = new Map<string, Marker>();
  /** Of the stream that runs now; null between two. */
  #attempt: AbortController | null = null;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#forever();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the change stream is stopped"));
    this.#notice();
    await this.#running;
  }

  /** Begins the stream again, by a new plan; one that is about to begin is left to it. */
  renew(): void {
    this.#attempt?.abort(new Error("the plan of the change stream is made anew"));
  }

  /** Everything of the source up to there is durable on the target; null until that is known. */
  get position(): string | null {
    return this.#applied;
  }

  get problem(): CleaveError | null {
    return this.#problem;
  }

  /** The marker of a fence, once it came by this stream and everything before it is durable here. */
  marker(migrationId: string, epoch: number): Marker | null {
    return this.#markers.get(`${migrationId} ${epoch}`) ?? null;
  }

  /** Resolves when something was applied, and at once when the signal aborts. */
  news(signal: AbortSignal): Promise<void> {
    return this.#conditions.changed(signal);
  }

  /** Resolves when everything up to `lsn` is durable here. @throws the signal's reason. */
  async reached(lsn: string, signal: AbortSignal): Promise<void> {
    const wanted = parseLsn(lsn);
    while (this.#applied === null || parseLsn(this.#applied) < wanted) {
      signal.throwIfAborted();
      await this.news(signal);
      if (this.#stopping.signal.aborted)
        throw new CleaveError("COMMAND_NOT_POSSIBLE", "the change stream was stopped");
    }
  }

  #notice(): void {
    this.#conditions.recheck();
  }

  async #forever(): Promise<void> {
    const { log, plan, ...options } = this.#options;
    const { signal } = this.#stopping;
    let unseen = 0;
    while (!signal.aborted) {
      try {
        const planned = await plan();
        this.#attempt = new AbortController();
        await follow({
          ...options,
          ...planned,
          signal: AbortSignal.any([signal, this.#attempt.signal]),
          onMarker: ({
            migration_id: migration,
            epoch,
            token,
            verified = null,
            schema_generation = null,
          }) => {
            if (migration && epoch && token)
              this.#markers.set(`${migration} ${epoch}`, { token, verified, schema_generation });
          },
          onApplied: (lsn) => {
            unseen = 0;
            this.#applied = lsn;
            if (this.#refusedAt === null || parseLsn(lsn) > parseLsn(this.#refusedAt)) this.#problem = null;
            this.#notice();
          },
          onRefused: (lsn) => {
            this.#refusedAt = lsn;
          },
        });
      } catch (error) {
        if (signal.aborted) return;
        const problem = toPostgresError(error, describeEndpoint(options.target));
        if (problem.code === "SCHEMA_CHANGED") {
          const pauseMs = Math.min(SEEN_AFTER_MS.first * 2 ** unseen++, SEEN_AFTER_MS.last);
          await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
          continue;
        }
        if (this.#problem?.message !== problem.message)
          log.warn({ code: problem.code, err: error }, problem.message);
        this.#problem = problem;
        const pauseMs = pauseAfter(problem);
        await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
      } finally {
        this.#attempt = null;
      }
    }
  }
}
