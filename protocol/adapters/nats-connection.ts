/**
 * One process's connection to NATS. It retries for ever, at the start as well as later, because a Pod has to go on
 * serving without NATS; and it says so every few seconds.
 */
import { readFile } from "node:fs/promises";
import { type ConnectionOptions, connect, type NatsConnection, type TlsOptions } from "nats";
import { CleaveError, type ErrorCode } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { Logger } from "../ports/logger.ts";
import type { NatsConfig } from "./nats-config.ts";

/** Between two lines that say that NATS is away. */
const COMPLAIN_EVERY_MS = 5_000;
const RETRY_MS = 200;
const CONNECT_TIMEOUT_MS = 2_000;
/** A server that hangs (paused, cut off) is noticed after three of these. */
const PING_INTERVAL_MS = 2_000;

export class NatsLink {
  readonly #config: NatsConfig;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #stopping = new AbortController();
  readonly #reconnectListeners = new Set<() => void>();
  readonly #ready: Promise<NatsConnection>;
  #connection: NatsConnection | null = null;
  #connected = false;
  #complaining = false;
  #lastFailure = "not connected yet";

  /** Returns at once and connects in the background. */
  constructor(config: NatsConfig, clock: Clock, logger: Logger) {
    this.#config = config;
    this.#clock = clock;
    this.#logger = logger;
    this.#ready = this.#connect();
    // Whoever waits gets the rejection of a closed link; if nobody waits it is nobody's.
    this.#ready.catch(() => undefined);
  }

  /** Resolves with the first connection, which then reconnects by itself. @throws CleaveError NATS_UNREACHABLE once closed. */
  ready(): Promise<NatsConnection> {
    return this.#ready;
  }

  /** Under which subjects answers to this process arrive; undefined: where all processes' do. */
  get inboxPrefix(): string | undefined {
    return this.#config.inboxPrefix;
  }

  connected(): boolean {
    return this.#connected;
  }

  /** For status and health: null while connected. */
  problem(): { readonly code: ErrorCode; readonly message: string } | null {
    if (this.#connected) return null;
    return { code: "NATS_UNREACHABLE", message: `${this.#servers()}: ${this.#lastFailure}` };
  }

  /** Called after every reconnection: whatever was in flight may be lost. Returns the unsubscribe function. */
  onReconnect(listener: () => void): () => void {
    this.#reconnectListeners.add(listener);
    return () => this.#reconnectListeners.delete(listener);
  }

  /** Sends what is buffered while the server answers, then closes. Never waits for a server that is away. */
  async close(): Promise<void> {
    this.#stopping.abort(new CleaveError("NATS_UNREACHABLE", "the connection was closed by this process"));
    const connection = this.#connection ?? (await this.#ready.catch(() => null));
    if (!connection || connection.isClosed()) return;
    if (this.#connected) {
      const flushed = connection.flush().catch(() => undefined);
      await Promise.race([flushed, this.#clock.sleep(500)]);
    }
    await connection.close();
    this.#connected = false;
  }

  async #connect(): Promise<NatsConnection> {
    let complainedAt = Number.NEGATIVE_INFINITY;
    for (;;) {
      this.#stopping.signal.throwIfAborted();
      try {
        const connection = await connect(await this.#options());
        this.#connection = connection;
        this.#connected = true;
        this.#logger.info({ servers: this.#servers() }, "connected to NATS");
        this.#watch(connection);
        return connection;
      } catch (error) {
        this.#lastFailure = error instanceof Error ? error.message : String(error);
        if (this.#clock.monotonic() - complainedAt >= COMPLAIN_EVERY_MS) {
          complainedAt = this.#clock.monotonic();
          this.#logger.warn({ code: "NATS_UNREACHABLE" }, `waiting for NATS at ${this.problem()?.message}`);
        }
        await this.#clock.sleep(RETRY_MS, this.#stopping.signal);
      }
    }
  }

  #watch(connection: NatsConnection): void {
    void (async () => {
      for await (const status of connection.status()) {
        if (status.type === "disconnect") this.#lost("the connection was lost");
        else if (status.type === "reconnect") this.#regained();
        else if (status.type === "error") this.#logger.warn({ detail: status.data }, "NATS reports an error");
      }
    })();
    void connection.closed().then((error) => {
      this.#connected = false;
      if (this.#stopping.signal.aborted) return;
      this.#lastFailure = error instanceof Error ? error.message : "the connection was closed";
      this.#logger.error({ code: "NATS_UNREACHABLE" }, `gave up on NATS: ${this.#lastFailure}`);
    });
  }

  #lost(why: string): void {
    this.#connected = false;
    this.#lastFailure = why;
    this.#logger.warn({ code: "NATS_UNREACHABLE" }, `NATS at ${this.#servers()}: ${why}; reconnecting`);
    void this.#complainWhileAway();
  }

  #regained(): void {
    this.#connected = true;
    this.#logger.info({ servers: this.#servers() }, "reconnected to NATS");
    for (const listener of this.#reconnectListeners) listener();
  }

  async #complainWhileAway(): Promise<void> {
    if (this.#complaining) return;
    this.#complaining = true;
    try {
      for (;;) {
        await this.#clock.sleep(COMPLAIN_EVERY_MS, this.#stopping.signal);
        if (this.#connected) return;
        this.#logger.warn({ code: "NATS_UNREACHABLE" }, `waiting for NATS at ${this.problem()?.message}`);
      }
    } catch {
      // Closed meanwhile: nothing is left to complain about.
    } finally {
      this.#complaining = false;
    }
  }

  #servers(): string {
    // A server's address may carry a password: only what stands behind it is shown.
    return this.#config.servers.map((server) => server.replace(/^(\w+:\/\/)?[^@/]*@/, "$1")).join(", ");
  }

  async #options(): Promise<ConnectionOptions> {
    const { servers, user, token, name, tls, inboxPrefix } = this.#config;
    const password = await secret(this.#config.password, this.#config.passwordFile);
    const heldToken = await secret(token, this.#config.tokenFile);
    return {
      servers,
      name,
      ...(user === undefined ? {} : { user }),
      ...(password === undefined ? {} : { pass: password }),
      ...(heldToken === undefined ? {} : { token: heldToken }),
      ...(tls === undefined ? {} : { tls: tlsOptions(tls) }),
      ...(inboxPrefix === undefined ? {} : { inboxPrefix }),
      timeout: CONNECT_TIMEOUT_MS,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: 2,
      maxReconnectAttempts: -1,
      reconnectTimeWait: RETRY_MS,
      reconnectJitter: 100,
      // A password that is being rotated is refused for a while; giving up would need a restart by hand.
      ignoreAuthErrorAbort: true,
    };
  }
}

/** The files are read with every connection, so that a renewed certificate needs no restart. */
function tlsOptions({ caFile, certificateFile, keyFile }: NonNullable<NatsConfig["tls"]>): TlsOptions {
  return {
    ...(caFile === undefined ? {} : { caFile }),
    ...(certificateFile === undefined ? {} : { certFile: certificateFile }),
    ...(keyFile === undefined ? {} : { keyFile }),
  };
}

async function secret(value: string | undefined, file: string | undefined): Promise<string | undefined> {
  if (value !== undefined || file === undefined) return value;
  return (await readFile(file, "utf8")).replace(/\r?\n$/, "");
}
