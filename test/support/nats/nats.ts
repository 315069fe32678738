/** A real NATS server with JetStream for tests and the demo: as a process of this machine, or in a container. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "../../../examples/quickstart/cluster/ports.ts";
import { NatsConfig } from "../../../protocol/adapters/nats-config.ts";
import { stopProcess } from "../stop-process.ts";

export interface NatsServer {
  /** `nats://127.0.0.1:<port>`; the same after a restart. */
  readonly url: string;
  readonly port: number;
  /** How a process of Cleave connects to it. */
  readonly config: NatsConfig;
  /** A crash: nothing is flushed or said goodbye to. */
  kill(): Promise<void>;
  /** Again, on the same data and port; resolves when it accepts connections. */
  start(): Promise<void>;
  /** The server hangs but its connections stay open. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Ends it and removes its data. */
  stop(): Promise<void>;
}

/** Where Linux distributions, Homebrew and manual installations put the binary. */
const PLACES = ["/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/homebrew/bin"];

/** The path of `nats-server`, or null where it is not installed. `NATS_SERVER` overrides the search. */
export function findNatsServer(): string | null {
  const chosen = process.env["NATS_SERVER"];
  if (chosen) return chosen;
  for (const place of [...(process.env["PATH"] ?? "").split(delimiter), ...PLACES]) {
    if (place === "") continue;
    try {
      const candidate = join(place, "nats-server");
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not here.
    }
  }
  return null;
}

export interface NatsServerOptions {
  /** Where the data is kept; by default a new temporary folder, removed by `stop`. */
  readonly directory?: string;
  readonly port?: number;
  /** Further arguments, for example `["--user", "u", "--pass", "p"]`. */
  readonly args?: readonly string[];
}

/** Starts a server and resolves when it accepts connections. @throws Error when there is no `nats-server`. */
export async function startNats(options: NatsServerOptions = {}): Promise<NatsServer> {
  const binary = findNatsServer();
  if (binary === null)
    throw new Error("nats-server was not found: install it, or set NATS_SERVER to its path");
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "cleave-nats-")));
  const port = options.port ?? (await freePort());
  let child: ChildProcess | null = null;

  async function start(): Promise<void> {
    if (child) return;
    const args = ["-a", "127.0.0.1", "-p", String(port), "-js", "-sd", directory, ...(options.args ?? [])];
    const started = spawn(binary as string, args, { stdio: ["ignore", "ignore", "pipe"] });
    child = started;
    let output = "";
    started.stderr.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-4_000);
    });
    const failed = new Promise<never>((_resolve, reject) => {
      started.once("error", reject);
      started.once("exit", (code) => reject(new Error(`nats-server ended with ${code}: ${output}`)));
    });
    failed.catch(() => undefined);
    await Promise.race([acceptsConnections(port, 10_000), failed]);
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    const ending = child;
    child = null;
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return;
    const exited = once(ending, "exit");
    ending.kill(signal);
    // A paused process ends by SIGKILL only.
    const forced = setTimeout(() => ending.kill("SIGKILL"), 3_000);
    await exited;
    clearTimeout(forced);
  }

  try {
    await start();
  } catch (error) {
    await end("SIGKILL");
    if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
    throw error;
  }
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    config: NatsConfig.parse({ servers: `nats://127.0.0.1:${port}`, name: "test" }),
    kill: () => end("SIGKILL"),
    start,
    pause: async () => {
      if (child?.pid !== undefined) await stopProcess(child.pid);
    },
    resume: async () => void child?.kill("SIGCONT"),
    stop: async () => {
      await end("SIGTERM");
      if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
    },
  };
}

async function acceptsConnections(port: number, withinMs: number): Promise<void> {
  const until = performance.now() + withinMs;
  for (;;) {
    const socket = createConnection({ host: "127.0.0.1", port });
    try {
      // The server greets with INFO; a bare accept would also come from a listening socket that is not served yet.
      await Promise.race([
        once(socket, "data"),
        delay(1_000).then(() => Promise.reject(new Error("silent"))),
      ]);
      return;
    } catch (error) {
      if (performance.now() > until) throw new Error(`NATS on port ${port} did not start: ${error}`);
      await delay(10);
    } finally {
      socket.destroy();
    }
  }
}
