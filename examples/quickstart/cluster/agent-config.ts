/** An agent's configuration file, for one Pod of the demo. */
import { stringify } from "yaml";
import type { Layout, PodLayout } from "./layout.ts";

export function agentConfig(layout: Layout, pod: PodLayout, ownershipFile: string): string {
  return stringify({
    podId: pod.podId,
    stateDirectory: pod.stateDirectory,
    nats: { servers: layout.natsUrl, name: `agent-${pod.podId}` },
    listen: { host: "127.0.0.1", guardPort: pod.guardPort, peerPort: pod.peerPort },
    peerToken: layout.peerToken,
    ownershipFile,
    postgres: {
      ...pod.postgres,
      dataDirectory: pod.dataDirectory,
      logFile: pod.postgresLog,
      serverOptions: { unix_socket_directories: "", shared_buffers: "64MB" },
    },
    git: { root: pod.gitRoot },
    objects: { root: pod.objectsRoot },
    peers: Object.fromEntries(
      layout.pods
        .filter((peer) => peer !== pod)
        .map((peer) => [
          peer.podId,
          { agentUrl: `http://127.0.0.1:${peer.peerPort}`, postgres: peer.postgres },
        ]),
    ),
    ...layout.agentSettings,
  });
}
