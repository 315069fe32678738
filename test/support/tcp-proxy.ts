/** A TCP connection that can be made to fail: for answers that get lost on the way. */
import { once } from "node:events";
import { createConnection, createServer, type Socket } from "node:net";

export interface TcpProxy {
  readonly port: number;
  /** What the server sends from now on does not arrive; what the client sends does. */
  dropAnswers(): void;
  /** All connections break as when their server died (RST); new ones work. */
  reset(): void;
  /** All connections are cut; new ones work. */
  heal(): void;
  close(): Promise<void>;
}

export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let dropping = false;
  const server = createServer({ noDelay: true }, (client) => {
    const upstream = createConnection({ host: "127.0.0.1", port: targetPort, noDelay: true });
    for (const [socket, other] of [[client, upstream] as const, [upstream, client] as const]) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    client.on("data", (chunk) => upstream.write(chunk));
    upstream.on("data", (chunk) => {
      if (!dropping) client.write(chunk);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no TCP port");
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: address.port,
    dropAnswers: () => {
      dropping = true;
    },
    reset: () => {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    heal: () => {
      dropping = false;
      cut();
    },
    close: async () => {
      cut();
      server.close();
      await once(server, "close");
    },
  };
}
