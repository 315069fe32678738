/** Reports between processes: delayed, lost, doubled, reordered, each message by a draw of its own identity. */
import { decodeReport, encodeReport } from "../../protocol/codec.ts";
import { CleaveError, toCleaveError } from "../../protocol/errors.ts";
import type { Report } from "../../protocol/messages.ts";
import type { Bus } from "../../protocol/ports/bus.ts";
import type { Chance } from "../world/random.ts";
import type { World } from "../world/world.ts";
import type { Run } from "./host.ts";
import { LOG, type Network } from "./network.ts";

interface Listener {
  readonly run: Run;
  readonly hear: (report: Report) => void;
  readonly bad: (error: Error) => void;
}

export class BusServer {
  readonly #world: World;
  readonly #network: Network;
  readonly #chance: Chance;
  readonly #listeners = new Set<Listener>();
  loss = 0;
  doubling = 0;
  /** An agent reports that it does not know an event (rule 13). */
  said: (from: string, what: string) => void = () => undefined;
  /** `listener` has just been told a report that `from` sent. */
  heard: (listener: Run, from: Run, report: Report) => void = () => undefined;
  /** Messages are held for up to this long, each for its own time, so they overtake one another. */
  shuffleMs = 0;

  constructor(world: World, network: Network) {
    this.#world = world;
    this.#network = network;
    this.#chance = world.chance.fork("bus");
  }

  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  publish(run: Run, report: Report): void {
    if (report.notUnderstood !== null) this.said(run.host.id, report.notUnderstood);
    // Through the wire format, as it really goes.
    const identity = `${run.host.id} ${report.incarnation} ${report.reportSequence}`;
    this.send(run, report.podId, encodeReport(report), identity);
  }

  /** On that Pod's subject, whatever it is. */
  send(run: Run, podId: string, bytes: Uint8Array, identity: string): void {
    const read = readReport(podId, bytes);
    this.#network.send(run.host.id, LOG, "report", () => {
      for (const listener of this.#listeners) {
        if (!listener.run.alive) this.#listeners.delete(listener);
        else this.#deliver(listener, run, read, `${identity} ${listener.run.host.id}`);
      }
    });
  }

  #deliver(listener: Listener, from: Run, read: Report | Error, identity: string): void {
    if (this.loss > 0 && this.#chance.of(`loss ${identity}`) < this.loss) return;
    const times = this.doubling > 0 && this.#chance.of(`double ${identity}`) < this.doubling ? 2 : 1;
    for (let i = 0; i < times; i++) {
      const heldMs = this.shuffleMs > 0 ? this.shuffleMs * this.#chance.of(`held ${identity} ${i}`) : 0;
      const to = listener.run.host.id;
      const ms = heldMs + this.#network.delayMs(LOG, to);
      this.#world.after(ms, `report to ${to}`, () => {
        if (!this.#network.reaches(LOG, to) || listener.run.host.nothingHeardUntil > this.#world.now) return;
        listener.run.now("report", () => {
          // Unsubscribed while it was on its way.
          if (!this.#listeners.has(listener)) return;
          if (read instanceof Error) listener.bad(read);
          else {
            listener.hear(read);
            this.heard(listener.run, from, read);
          }
        });
      });
    }
  }
}

function readReport(podId: string, bytes: Uint8Array): Report | Error {
  try {
    const report = decodeReport(bytes);
    if (report.podId === podId) return report;
    return new CleaveError("MESSAGE_MALFORMED", `a report of ${report.podId} came as one of ${podId}`);
  } catch (error) {
    return toCleaveError(error, "MESSAGE_MALFORMED");
  }
}

export class BusClient implements Bus {
  readonly #server: BusServer;
  readonly #network: Network;
  readonly #run: Run;

  constructor(server: BusServer, network: Network, run: Run) {
    this.#server = server;
    this.#network = network;
    this.#run = run;
  }

  publishReport(report: Report): void {
    this.#server.publish(this.#run, report);
  }

  onReport(onReport: (report: Report) => void, onBad: (error: Error) => void): () => void {
    return this.#server.listen({ run: this.#run, hear: onReport, bad: onBad });
  }

  connected(): boolean {
    return this.#network.connected(this.#run.host.id, LOG);
  }
}
