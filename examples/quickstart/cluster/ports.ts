/**
 * Ports for servers that are started later, possibly much later: a new Pod's PostgreSQL begins to listen when its
 * copy is complete. So they are neither ports that the system gives to outgoing connections, nor ports that another
 * run on this machine has set aside.
 */
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";

const LOWEST = 10_000;
/** The first port of a block is listened to for as long as this process lives: that sets the others aside. */
const BLOCK = 16;

/** Where the ports of outgoing connections begin: Linux says, others follow the registry's advice. */
function firstEphemeralPort(): number {
  try {
    return Number.parseInt(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8"), 10);
  } catch {
    return 49_152;
  }
}

/** Null when somebody has the port. */
function listen(port: number): Promise<Server | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(null));
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

const close = (server: Server) => new Promise<void>((resolve) => server.close(() => resolve()));

/** The rest of a block of which all ports were free. Null when it is not this process's to have. */
async function takeBlock(first: number): Promise<number[] | null> {
  const claim = await listen(first);
  if (claim === null) return null;
  const ports = Array.from({ length: BLOCK - 1 }, (_, i) => first + 1 + i);
  const servers = await Promise.all(ports.map(listen));
  await Promise.all(servers.map((server) => server && close(server)));
  if (servers.includes(null)) {
    await close(claim);
    return null;
  }
  // It shall not keep the process alive.
  claim.unref();
  return ports;
}

let spare: number[] = [];

/**
 * `count` different ports of 127.0.0.1 that are free and set aside for this process until it ends.
 * @throws Error when there are none.
 */
export async function freePorts(count: number): Promise<number[]> {
  const blocks = Math.floor((firstEphemeralPort() - LOWEST) / BLOCK);
  for (let attempts = 0; spare.length < count; attempts++) {
    if (attempts > 1_000) throw new Error(`no ${count} free ports between ${LOWEST} and the ephemeral ones`);
    const block = await takeBlock(LOWEST + BLOCK * Math.floor(Math.random() * blocks));
    if (block !== null) spare = [...spare, ...block];
  }
  return spare.splice(0, count);
}

/** One of `freePorts`. */
export async function freePort(): Promise<number> {
  return (await freePorts(1))[0] as number;
}
