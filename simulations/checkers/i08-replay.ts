/** I8: folding the log from zero, from any checkpoint, and on every process gives the same state. */
import { Decoder, Encoder } from "@msgpack/msgpack";
import { type ClusterState, emptyCluster } from "../../protocol/cluster.ts";
import { evolve } from "../../protocol/evolve.ts";
import type { Checker } from "../observer.ts";
import type { Facts } from "./facts.ts";

const encoder = new Encoder({ sortKeys: true });
const decoder = new Decoder({ keyDecoder: null });

/** Equal for equal states. */
export const bytesOf = (state: ClusterState): string =>
  Buffer.from(encoder.encodeSharedRef(state)).toString("latin1");

export function replay({ truth, cluster, violated }: Facts): Checker {
  const expected: string[] = [];
  return {
    invariant: "I8",
    saved(host, state) {
      const known = truth.states[state.sequence];
      if (!known) return violated("I8", `${host} folded ${state.sequence} records, the log has fewer`);
      expected[state.sequence] ??= bytesOf(known);
      if (bytesOf(state) !== expected[state.sequence])
        violated("I8", `${host} folded ${state.sequence} records to another state than the log's`);
    },
    atRest() {
      // From zero, and from every third prefix as a checkpoint gives it back.
      const { records } = cluster.servers.log;
      const end = bytesOf(truth.state);
      for (let from = 0; from < records.length; from += 3) {
        let state =
          from === 0 ? emptyCluster : (decoder.decode(encoder.encode(truth.states[from])) as ClusterState);
        for (let i = from; i < records.length; i++) state = evolve(state, records[i] as never, i + 1);
        if (bytesOf(state) !== end) violated("I8", `the log folded from record ${from} gives another state`);
      }
    },
  };
}
