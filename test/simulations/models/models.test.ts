/** The simulator's log, bus and blobs keep the promises of the real ones: the same contracts, driven by virtual time. */
import { readRecord } from "../../../protocol/adapters/read-record.ts";
import { BlobClient, BlobServer } from "../../../simulations/models/blobs.ts";
import { BusClient, BusServer } from "../../../simulations/models/bus.ts";
import { LogClient, LogServer } from "../../../simulations/models/log.ts";
import { blobsContract } from "../../protocol/adapters/blobs-contract.ts";
import { busContract } from "../../protocol/adapters/bus-contract.ts";
import { eventLogContract } from "../../protocol/adapters/event-log-contract.ts";
import { ModelWorld } from "../../support/stores/model-world.ts";

eventLogContract("the simulator's model", async () => {
  const model = new ModelWorld();
  const server = new LogServer(model.world);
  return {
    makeLog: async () => new LogClient(server, model.network, model.process()),
    appendRaw: async (bytes) => void server.store(readRecord(bytes, 0).record),
    close: () => model.close(),
  };
});

busContract("the simulator's model", async () => {
  const model = new ModelWorld();
  const server = new BusServer(model.world, model.network);
  let raw = 0;
  return {
    makeBus: async () => new BusClient(server, model.network, model.process()),
    sendRaw: async (podId, bytes) => server.send(model.process(), podId, bytes, `raw ${++raw}`),
    close: () => model.close(),
  };
});

blobsContract("the simulator's model", async () => {
  const model = new ModelWorld();
  const server = new BlobServer();
  return {
    makeBlobs: async () => new BlobClient(server, model.network, model.process()),
    corrupt: async (digest, bytes) => void server.content.set(digest as never, bytes),
    close: () => model.close(),
  };
});
