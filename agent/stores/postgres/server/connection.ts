/** Connections to PostgreSQL that stay warm; `errors.ts` has PostgreSQL's errors as Cleave's. */
import pg from "pg";
import { CleaveError } from "../../../../protocol/errors.ts";
import { type Endpoint, passwordOf } from "../config.ts";
import { toPostgresError } from "./errors.ts";
import { SESSION_OPTIONS, settleSession } from "./session-settings.ts";

// Where callers look for it.
export { toPostgresError } from "./errors.ts";

export type Database = pg.Client;

const CONNECT_TIMEOUT_MS = 3_000;

export function describeEndpoint(endpoint: Endpoint): string {
  return `PostgreSQL at ${endpoint.host}:${endpoint.port}`;
}

export interface ConnectOptions {
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
  /**
   * A walsender's connection, for what the replication protocol alone answers: of the server, or (logical) of the
   * endpoint's database.
   */
  readonly replication?: "server" | "database";
  /** The next statement does not wait for the answer to the last one. */
  readonly pipeline?: boolean;
  /** For SQL of an operator: the session is as the database and the role have it. */
  readonly asConfigured?: boolean;
  /** After this a query fails and the connection is given up: for servers that hang. Default: never. */
  readonly queryTimeoutMs?: number;
}

/** What the driver is told of where a server is; the password comes beside it. */
const addressOf = ({ host, port, database, user }: Endpoint) => ({
  host,
  port,
  database,
  user,
  connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
});

/** What the driver has no type for: the raw replication protocol. */
const REPLICATION = { server: "true", database: "database" } as const;

/**
 * Opens one connection, whose settings do not depend on what database and role have been given (`SESSION_SETTINGS`).
 * Every connection of the store is made here.
 * @throws CleaveError POSTGRES_UNREACHABLE or POSTGRES_AUTHENTICATION.
 */
export async function connect(endpoint: Endpoint, options: ConnectOptions): Promise<Database> {
  const password = await passwordOf(endpoint);
  const client = new pg.Client({
    ...addressOf(endpoint),
    // An empty string keeps the driver from looking for ~/.pgpass or PGPASSWORD.
    password: password ?? "",
    application_name: options.applicationName.slice(0, 63),
    keepAlive: true,
    ...(options.asConfigured ? {} : { options: SESSION_OPTIONS }),
    ...(options.pipeline ? { pipeline: true } : {}),
    ...(options.queryTimeoutMs === undefined ? {} : { query_timeout: options.queryTimeoutMs }),
    ...(options.replication ? ({ replication: REPLICATION[options.replication] } as object) : {}),
  });
  client.on("error", () => undefined);
  try {
    await client.connect();
    if (!options.asConfigured && !options.replication) await settleSession(client);
  } catch (error) {
    discard(client);
    throw toPostgresError(error, describeEndpoint(endpoint));
  }
  return client;
}

/**
 * Some connections for queries that come one by one, with the settings that database and role have been given.
 * @param onLost a connection broke, whoever used it: the query that needed it fails too
 */
export async function connectionPool(
  endpoint: Endpoint,
  options: {
    readonly applicationName: string;
    readonly max: number;
    readonly onLost: (error: Error) => void;
  },
): Promise<pg.Pool> {
  const password = await passwordOf(endpoint);
  const pool = new pg.Pool({
    ...addressOf(endpoint),
    ...(password === undefined ? {} : { password }),
    max: options.max,
    application_name: options.applicationName,
  });
  // The pool listens to those that are idle alone, and one that is in use and that nobody listens to ends the process.
  pool.on("connect", (client) => client.on("error", options.onLost));
  pool.on("error", options.onLost);
  return pool;
}

/** Ends a connection without waiting for the server, which may hang. */
export function discard(client: Database): void {
  const stream = (client as unknown as { connection?: { stream?: { destroy(): void } } }).connection?.stream;
  client.end().catch(() => undefined);
  stream?.destroy();
}

/** How long an aborted task may take to leave by itself, for a server that hangs never answers. */
const LEAVE_WITHIN_MS = 2_000;

/** Runs `work`, and cuts its connections when it has not ended some time after the signal. */
export async function cutWhenAborted<T>(
  signal: AbortSignal,
  cut: () => void,
  work: () => Promise<T>,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(cut, LEAVE_WITHIN_MS);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await work();
  } finally {
    signal.removeEventListener("abort", onAbort);
    clearTimeout(timer);
  }
}

/**
 * A connection that is opened when first used and again after it broke, so that nothing on the path of the
 * read-only window has to connect. `onConnect` runs on every new connection before it is used.
 */
export class WarmConnection {
  readonly #endpoint: Endpoint;
  readonly #options: ConnectOptions;
  readonly #onConnect: (client: Database) => Promise<void>;
  #client: Promise<Database> | null = null;
  #current: Database | null = null;
  #turn: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(
    endpoint: Endpoint,
    options: ConnectOptions,
    onConnect: (client: Database) => Promise<void> = async () => undefined,
  ) {
    this.#endpoint = endpoint;
    this.#options = options;
    this.#onConnect = onConnect;
  }

  get where(): string {
    return describeEndpoint(this.#endpoint);
  }

  /** The open connection. @throws CleaveError POSTGRES_UNREACHABLE or POSTGRES_AUTHENTICATION. */
  get(): Promise<Database> {
    if (this.#closed) return Promise.reject(new CleaveError("POSTGRES_UNREACHABLE", `${this.where}: closed`));
    this.#client ??= this.#open();
    return this.#client;
  }

  /**
   * Runs `work` on the connection, alone: it may open a transaction. Must not be nested. A failure that could have
   * broken the connection makes the next use connect again.
   */
  use<T>(work: (client: Database) => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => this.#useNow(work));
    this.#turn = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  async #useNow<T>(work: (client: Database) => Promise<T>): Promise<T> {
    const client = await this.get();
    try {
      return await work(client);
    } catch (error) {
      const known = toPostgresError(error, this.where);
      if (known.code === "POSTGRES_UNREACHABLE") this.#forget(client);
      throw known;
    }
  }

  async query<Row extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[] = [],
  ): Promise<readonly Row[]> {
    return this.use(async (client) => (await client.query<Row>(text, [...values])).rows);
  }

  /** Gives up the present connection; the next use opens another. */
  reset(): void {
    const opening = this.#client;
    this.#client = null;
    opening?.then(discard, () => undefined);
  }

  close(): void {
    this.#closed = true;
    this.reset();
  }

  async #open(): Promise<Database> {
    try {
      const client = await connect(this.#endpoint, this.#options);
      const lost = () => this.#forget(client);
      client.on("error", lost);
      client.on("end", lost);
      this.#current = client;
      try {
        await this.#onConnect(client);
      } catch (error) {
        this.#forget(client);
        throw toPostgresError(error, this.where);
      }
      return client;
    } catch (error) {
      this.#client = null;
      throw error;
    }
  }

  #forget(client: Database): void {
    if (this.#current === client) {
      this.#current = null;
      this.#client = null;
    }
    discard(client);
  }
}
