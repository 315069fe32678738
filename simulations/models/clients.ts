/**
 * Writers and readers behind a router. A router keeps the last known Pod of an organization, asks the guard of that
 * Pod's agent, and follows 421 and 503. Some writers pass by the guard: the stores themselves refuse them.
 */
import type { Agent } from "../../agent/loop/agent.ts";
import type { StoreName } from "../../protocol/ids.ts";
import type { Seen } from "../observer.ts";
import type { Chance } from "../world/random.ts";
import type { World } from "../world/world.ts";
import type { FileServer } from "./files/server.ts";
import type { Run } from "./host.ts";
import type { Network } from "./network.ts";
import type { PostgresServer } from "./postgres/server.ts";
import type { Isolation, Refusal, Transaction } from "./postgres/transaction.ts";

const ROUTER = "router";
const NO_ANSWER_MS = 400;
const AGAIN_MS = 60;
const GIVE_UP_MS = 4_000;
const ISOLATIONS: readonly Isolation[] = ["read committed", "repeatable read", "serializable"];

export interface PodView {
  readonly agent: () => { readonly run: Run; readonly agent: Agent } | null;
  readonly postgres: PostgresServer;
  readonly git: FileServer;
  readonly objects: FileServer;
  readonly machineUp: () => boolean;
}

export interface ClientEvents {
  acknowledged(podId: string, store: StoreName, organization: string, write: string): void;
  read(read: { organization: string; podId: string; floor: Seen; seen: Seen }): void;
  refused(podId: string, organization: string, outcome: string): void;
}

export interface ClientsOptions {
  readonly world: World;
  readonly network: Network;
  readonly organizations: readonly string[];
  readonly defaultPodId: string;
  readonly pods: ReadonlyMap<string, PodView>;
  readonly clients: number;
  /** Share of transactions that stay open for long. */
  readonly longShare: number;
  /** Rows of a transaction, at most. */
  readonly rows: number;
  readonly events: ClientEvents;
}

interface Attempt {
  /** Whose router: each keeps routes of its own. */
  readonly client: string;
  readonly organization: string;
  readonly identity: string;
  readonly startedAt: number;
  readonly store: StoreName | null;
  readonly guarded: boolean;
  readonly chance: Chance;
  readonly done: () => void;
  floor: Seen;
  tries: number;
}

export class Clients {
  readonly #options: ClientsOptions;
  readonly #chance: Chance;
  /** By client and organization. */
  readonly #routes = new Map<string, string>();
  readonly #floors = new Map<string, Record<StoreName, number>>();
  /** Milliseconds between two operations of one client, at most. */
  periodMs = 700;
  stopped = false;
  acknowledged = 0;
  reads = 0;

  constructor(options: ClientsOptions) {
    this.#options = options;
    this.#chance = options.world.chance.fork("clients");
  }

  start(): void {
    for (let i = 0; i < this.#options.clients; i++) this.#next(`c${i}`, 0);
  }

  /** One write per store and one read of every organization; `settled` once all were acknowledged. */
  probe(settled: (organization: string, store: StoreName | null) => void): void {
    for (const organization of this.#options.organizations)
      for (const store of ["postgres", "git", "objects", null] as const) {
        const begin = (n: number): void => {
          const identity = `probe ${organization} ${store ?? "read"} ${n}`;
          let good = false;
          this.#begin(
            identity,
            organization,
            store,
            true,
            () => {
              if (good) settled(organization, store);
              else this.#options.world.after(Math.min(10_000, 500 * (n + 1)), identity, () => begin(n + 1));
            },
            () => {
              good = true;
            },
          );
        };
        begin(0);
      }
  }

  #next(client: string, n: number): void {
    const { world, organizations } = this.#options;
    const chance = this.#chance.fork(`${client} ${n}`);
    world.after(chance.skewed(20, this.periodMs), client, () => {
      if (this.stopped) return;
      // Some are busier than the others, so that several clients meet on them.
      const organization = chance.pick(chance.chance(0.5) ? organizations.slice(-3) : organizations);
      const x = chance.next();
      const store = x < 0.35 ? null : x < 0.65 ? "postgres" : x < 0.83 ? "git" : "objects";
      const guarded = store === null || chance.chance(0.7);
      this.#begin(`${client}.${n}`, organization, store, guarded, () => this.#next(client, n + 1));
    });
  }

  #begin(
    identity: string,
    organization: string,
    store: StoreName | null,
    guarded: boolean,
    done: () => void,
    good: () => void = () => undefined,
  ): void {
    let isDone = false;
    const attempt: Attempt = {
      client: identity.split(".")[0] ?? identity,
      organization,
      identity,
      startedAt: this.#options.world.now,
      store,
      guarded,
      chance: this.#chance.fork(`attempt ${identity}`),
      done: () => {
        if (isDone) return;
        isDone = true;
        done();
      },
      floor: this.#floorOf(organization),
      tries: 0,
    };
    this.#goods.set(attempt, good);
    this.#try(attempt);
  }

  readonly #goods = new WeakMap<Attempt, () => void>();

  #floorOf(organization: string): Seen {
    const floor = this.#floors.get(organization);
    return floor ? { ...floor } : { postgres: 0, git: 0, objects: 0 };
  }

  /** A loss of these is accepted: clients know of it, and expect what there is from now on. */
  accept(organizations: readonly string[]): void {
    for (const organization of organizations) {
      this.#floors.delete(organization);
      this.#acceptedAt.set(organization, this.#options.world.now);
    }
  }

  readonly #acceptedAt = new Map<string, number>();

  #raiseFloor(organization: string, seen: Partial<Record<StoreName, number>>): void {
    const floor = this.#floors.get(organization) ?? { postgres: 0, git: 0, objects: 0 };
    for (const [store, count] of Object.entries(seen) as [StoreName, number][])
      floor[store] = Math.max(floor[store], count);
    this.#floors.set(organization, floor);
  }

  #again(attempt: Attempt, ms: number): void {
    const { world } = this.#options;
    if (world.now - attempt.startedAt > GIVE_UP_MS) attempt.done();
    else world.after(ms, `${attempt.identity} again`, () => this.#try(attempt));
  }

  #try(attempt: Attempt): void {
    attempt.tries += 1;
    const podId = this.#routes.get(`${attempt.client} ${attempt.organization}`) ?? this.#options.defaultPodId;
    if (attempt.guarded) this.#askGuard(attempt, podId);
    else this.#atPod(attempt, podId);
  }

  #askGuard(attempt: Attempt, podId: string): void {
    const { world, network, pods } = this.#options;
    let answered = false;
    const timeout = world.after(NO_ANSWER_MS, `${attempt.identity} no answer`, () => {
      if (answered) return;
      answered = true;
      this.#askElsewhere(attempt);
      this.#again(attempt, AGAIN_MS);
    });
    network.send(ROUTER, podId, "guard?", () => {
      const found = pods.get(podId)?.agent();
      found?.run.after(0, "guard", () => {
        const access = found.agent.access(attempt.organization as never, attempt.store !== null);
        network.send(podId, ROUTER, access.outcome, () => {
          if (answered) return;
          answered = true;
          world.cancel(timeout);
          if (access.outcome === "allow") this.#atPod(attempt, podId);
          else this.#refused(attempt, podId, access);
        });
      });
    });
  }

  #refused(attempt: Attempt, podId: string, refusal: Refusal | { outcome: string; podId?: string }): void {
    const { outcome } = refusal;
    if (outcome !== "down" && outcome !== "serialization")
      this.#options.events.refused(podId, attempt.organization, outcome);
    if (outcome === "wrongPod" && "podId" in refusal && refusal.podId !== undefined) {
      this.#routes.set(`${attempt.client} ${attempt.organization}`, refusal.podId);
      // Pods that send it to one another are asked more and more rarely.
      const pauseMs = attempt.tries > 12 ? 20 * AGAIN_MS : AGAIN_MS;
      this.#again(attempt, attempt.tries % 4 === 0 ? pauseMs : 0);
    } else {
      if (outcome === "fenced" || outcome === "unconfirmed") this.#askElsewhere(attempt);
      this.#again(attempt, AGAIN_MS);
    }
  }

  /** A router that gets no good answer asks another Pod now and then: every guard knows whose an organization is. */
  #askElsewhere(attempt: Attempt): void {
    if (!attempt.chance.chance(0.4)) return;
    this.#routes.set(
      `${attempt.client} ${attempt.organization}`,
      attempt.chance.pick([...this.#options.pods.keys()]),
    );
  }

  #atPod(attempt: Attempt, podId: string): void {
    const { world, network, pods } = this.#options;
    const pod = pods.get(podId);
    network.send(ROUTER, podId, attempt.store ?? "read", () => {
      if (!pod?.machineUp()) return this.#again(attempt, AGAIN_MS);
      if (attempt.store === null) this.#read(attempt, podId, pod);
      else if (attempt.store === "postgres") this.#writeRow(attempt, podId, pod);
      else this.#writeFile(attempt, podId, pod[attempt.store]);
    });
    if (!network.connected(ROUTER, podId)) {
      // Sent into a broken line: whether it arrived is not known, so this very write is not sent again.
      world.after(NO_ANSWER_MS, `${attempt.identity} lost`, attempt.done);
    }
  }

  #answer(attempt: Attempt, podId: string, arrive: () => void): void {
    const { network, world } = this.#options;
    if (network.reaches(podId, ROUTER)) network.send(podId, ROUTER, "answer", arrive);
    else world.after(NO_ANSWER_MS, `${attempt.identity} lost`, attempt.done);
  }

  #read(attempt: Attempt, podId: string, pod: PodView): void {
    const { world, events } = this.#options;
    const { organization, chance } = attempt;
    world.after(chance.skewed(0.1, 4), `${attempt.identity} reads`, () => {
      if (!pod.postgres.up || !pod.machineUp()) return this.#again(attempt, AGAIN_MS);
      const seen = {
        postgres: pod.postgres.state.rows.get(organization)?.length ?? 0,
        git: pod.git.writesOf(organization).length,
        objects: pod.objects.writesOf(organization).length,
      };
      this.#answer(attempt, podId, () => {
        const isBefore = attempt.startedAt < (this.#acceptedAt.get(organization) ?? 0);
        const floor = isBefore ? { postgres: 0, git: 0, objects: 0 } : attempt.floor;
        events.read({ organization, podId, floor, seen });
        this.#raiseFloor(organization, seen);
        this.reads += 1;
        this.#goods.get(attempt)?.();
        attempt.done();
      });
    });
  }

  #acknowledge(attempt: Attempt, podId: string, store: StoreName, count: number): void {
    this.#answer(attempt, podId, () => {
      this.acknowledged += 1;
      this.#raiseFloor(attempt.organization, { [store]: count });
      this.#options.events.acknowledged(podId, store, attempt.organization, attempt.identity);
      this.#goods.get(attempt)?.();
      attempt.done();
    });
  }

  #holdMs(attempt: Attempt): number {
    return attempt.chance.chance(this.#options.longShare)
      ? attempt.chance.whole(200, 3_000)
      : attempt.chance.skewed(0.2, 100);
  }

  #writeRow(attempt: Attempt, podId: string, pod: PodView): void {
    const { world } = this.#options;
    const { organization, identity, chance } = attempt;
    const { postgres } = pod;
    const isolation = chance.pick(ISOLATIONS);
    const transaction = postgres.begin(isolation);
    if (!transaction) {
      this.#refused(attempt, podId, { outcome: "down" });
      return;
    }
    const { starts } = postgres;
    const alive = () => postgres.starts === starts && postgres.up;
    if (isolation !== "read committed") transaction.snapshot = postgres.state.version;
    const before = isolation === "read committed" ? 0 : this.#holdMs(attempt);
    world.after(before, `${identity} writes a row`, () => {
      const refusal = alive()
        ? this.#writeRows(attempt, postgres, transaction)
        : { outcome: "down" as const };
      if (refusal) return this.#answer(attempt, podId, () => this.#refused(attempt, podId, refusal));
      world.after(this.#holdMs(attempt), `${identity} commits`, () => {
        if (!alive()) return attempt.done();
        let heard = false;
        postgres.commit(transaction, (committed) => {
          heard = true;
          if (committed)
            this.#acknowledge(attempt, podId, "postgres", postgres.state.rows.get(organization)?.length ?? 0);
          else this.#answer(attempt, podId, attempt.done);
        });
        // A server that dies while it commits never answers: nobody knows.
        world.after(NO_ANSWER_MS, `${identity} commit lost`, () => {
          if (!heard) attempt.done();
        });
      });
    });
  }

  /** The write itself, and sometimes many more in its transaction. */
  #writeRows(
    { organization, identity, chance }: Attempt,
    postgres: PostgresServer,
    transaction: Transaction,
  ) {
    const { rows } = this.#options;
    const more = rows === 1 ? 0 : chance.fork("rows").whole(0, rows - 1);
    let refusal = postgres.write(transaction, organization, identity);
    for (let n = 1; n <= more && refusal === null; n++)
      refusal = postgres.write(transaction, organization, `${identity}/${n}`);
    return refusal;
  }

  #writeFile(attempt: Attempt, podId: string, server: FileServer): void {
    const { world, pods } = this.#options;
    const { organization, identity, chance } = attempt;
    const up = () => pods.get(podId)?.machineUp() === true;
    const writer = server.begin(organization, identity);
    world.after(chance.skewed(0.1, 3), `${identity} looks at the share`, () => {
      const refusal = up() ? server.check(writer) : ({ outcome: "down" } as const);
      if (refusal) {
        server.end(writer);
        this.#answer(attempt, podId, () => this.#refused(attempt, podId, refusal));
        return;
      }
      world.after(this.#holdMs(attempt) + (writer.late ? server.lateMs : 0), `${identity} writes`, () => {
        if (!server.write(writer, identity)) {
          this.#answer(attempt, podId, attempt.done);
          return;
        }
        const count = server.writesOf(organization).length;
        world.after(chance.skewed(0.1, 2), `${identity} ends`, () => {
          server.end(writer);
          this.#acknowledge(attempt, podId, server.kind, count);
        });
      });
    });
  }
}
