/**
 * A Pod's own server between migrations and after them. One that Cleave made and the agent starts is kept running by the
 * agent, always, until an operator has named a service that starts it and that service has done so once. Whoever starts it:
 * that it does not answer is said within seconds, whether a migration asks or not.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { replaceDurably } from "../../../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { OwnProblem } from "../../../../protocol/evidence.ts";
import { Background } from "../background.ts";
import type { PostgresStoreOptions } from "../context.ts";
import { type CopyRecord, hasCopyRecords } from "../split/copy-record.ts";
import { locateBinaries } from "./binaries.ts";
import { toPostgresError, WarmConnection } from "./connection.ts";
import { carriesToken } from "./data-directory.ts";
import { logFileOf, startedByAgent, startOwnServer } from "./own-start.ts";
import { resolveRunAs } from "./run-as.ts";
import { readTextOrNull, runningServer } from "./server.ts";

const LOOK_EVERY_MS = 1_000;
const HANGS_AFTER_MS = 2_000;
/** An answer that is missing once may be a restart. */
const MISSING_LOOKS = 2;

const Kept = z.object({
  version: z.literal(1),
  dataDirectory: z.string(),
  /** Of the copy that became this server: what else comes into the directory is not ours to start. */
  token: z.string(),
  /** The service that the operator named has started it once. */
  handedOver: z.boolean(),
});
type Kept = z.infer<typeof Kept>;

export class KeptServer {
  readonly #options: PostgresStoreOptions;
  readonly #path: string;
  readonly #onChange: () => void;
  readonly #loop: Background;
  readonly #connection: WarmConnection;
  #kept: Kept | null | undefined;
  #problem: OwnProblem | null = null;
  #missed = 0;

  constructor(options: PostgresStoreOptions, onChange: () => void) {
    this.#options = options;
    this.#onChange = onChange;
    this.#path = join(options.stateDirectory, "postgres", "server.json");
    this.#loop = new Background(options.clock, LOOK_EVERY_MS, (signal) => this.#turn(signal));
    this.#connection = new WarmConnection(options.config, {
      applicationName: "cleave-watch",
      queryTimeoutMs: HANGS_AFTER_MS,
    });
  }

  /** What keeps the Pod's server from answering, as far as the last look knows; null while it answers. */
  get problem(): OwnProblem | null {
    return this.#problem;
  }

  /** Looks every second from now on, and starts what the agent is to keep running. */
  start(): void {
    this.#loop.start();
  }

  async close(): Promise<void> {
    this.#connection.close();
    await this.#loop.stop();
  }

  /** The copy has become a Pod's server, and the agent is who starts it. Durable when it resolves; idempotent. */
  async adopt({ dataDirectory, token }: CopyRecord): Promise<void> {
    const known = await this.#load();
    if (known?.token === token && known.dataDirectory === dataDirectory) return;
    await this.#save({ version: 1, dataDirectory, token, handedOver: false });
  }

  /** The agent may start it: no service has taken it over. */
  async isAgents(): Promise<boolean> {
    return !((await this.#load())?.handedOver ?? false);
  }

  async #turn(signal: AbortSignal): Promise<void> {
    try {
      const kept = await this.#load();
      const ours = kept !== null && (await this.#isOurs(kept));
      if (ours && (await this.#keep(kept, signal))) return;
      if (!ours && !(await this.#isExpected())) return this.#tell(null);
      await this.#connection.query("SELECT 1");
      this.#missed = 0;
      this.#tell(null);
    } catch (error) {
      if (signal.aborted) return;
      this.#missed += 1;
      const known = toPostgresError(error, "PostgreSQL of this Pod");
      if (this.#missed >= MISSING_LOOKS) this.#tell(known);
    }
  }

  /** True when the server is down, and all is said about that. */
  async #keep(kept: Kept, signal: AbortSignal): Promise<boolean> {
    const { config } = this.#options;
    const byService = config.startedBy === "service";
    if (kept.handedOver && !byService) await this.#save({ ...kept, handedOver: false });
    const running = await runningServer(config.dataDirectory);
    if (running !== null) {
      if (running.ready && byService && !kept.handedOver && !(await startedByAgent(config.dataDirectory)))
        await this.#save({ ...kept, handedOver: true });
      return false;
    }
    this.#missed = MISSING_LOOKS;
    if (byService && kept.handedOver) {
      this.#tell(stopped("the service that `postgres.startedBy` leaves it to has to start it"));
      return true;
    }
    this.#tell(stopped("the agent is starting it again"));
    await this.#start(signal);
    return false;
  }

  async #start(signal: AbortSignal): Promise<void> {
    const { config, log } = this.#options;
    const version = Number(await readTextOrNull(join(config.dataDirectory, "PG_VERSION")));
    const binaries = await locateBinaries(
      config.binDirectory === undefined ? { majorVersion: version } : { binDirectory: config.binDirectory },
    );
    const runAs = await resolveRunAs(config.runAs);
    await startOwnServer(this.#options, binaries, runAs, signal);
    log.warn({ logFile: logFileOf(this.#options) }, "PostgreSQL had stopped and was started again");
  }

  async #isOurs({ dataDirectory, token }: Kept): Promise<boolean> {
    return dataDirectory === this.#options.config.dataDirectory && carriesToken(dataDirectory, token);
  }

  /** A new Pod has no server, and the one of a copy that is being made or follows is its migration's to look after. */
  async #isExpected(): Promise<boolean> {
    const { config, stateDirectory } = this.#options;
    if ((await readTextOrNull(join(config.dataDirectory, "PG_VERSION"))) === null) return false;
    return !(await hasCopyRecords(stateDirectory));
  }

  #tell(problem: CleaveError | null): void {
    if (this.#problem?.message === problem?.message) return;
    if (problem !== null) this.#options.log.warn({ code: problem.code }, problem.message);
    this.#problem =
      problem === null ? null : { code: problem.code, message: problem.message.slice(0, 2_000) };
    this.#onChange();
  }

  async #load(): Promise<Kept | null> {
    if (this.#kept !== undefined) return this.#kept;
    const text = await readTextOrNull(this.#path);
    if (text === null) return null;
    let value: unknown = null;
    try {
      value = JSON.parse(text);
    } catch {
      // As damaged as one that does not fit.
    }
    const parsed = Kept.safeParse(value);
    if (!parsed.success)
      throw new CleaveError("CONFIG_INVALID", `${this.#path} is damaged: ${z.prettifyError(parsed.error)}`);
    this.#kept = parsed.data;
    return parsed.data;
  }

  async #save(kept: Kept): Promise<void> {
    await mkdir(join(this.#options.stateDirectory, "postgres"), { recursive: true });
    await replaceDurably(this.#path, `${JSON.stringify(kept)}\n`);
    this.#kept = kept;
  }
}

function stopped(who: string): CleaveError {
  return new CleaveError("POSTGRES_UNREACHABLE", `PostgreSQL of this Pod has stopped: ${who}`);
}
