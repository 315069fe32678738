/** A transaction of one server, how the guard refuses it, and the fence that waits for it. */
import type { PodId } from "../../../protocol/ids.ts";
import type { Run } from "../host.ts";
import type { Change } from "./state.ts";

export type Isolation = "read committed" | "repeatable read" | "serializable";
export type Refusal =
  | { readonly outcome: "fenced" }
  | { readonly outcome: "wrongPod"; readonly podId: PodId }
  | { readonly outcome: "serialization" }
  | { readonly outcome: "down" };

export class Transaction {
  readonly isolation: Isolation;
  readonly startedAt: number;
  readonly client: Run | null;
  /** Version of the state that it sees; taken by the first statement, and by every one in READ COMMITTED. */
  snapshot: number | null = null;
  readonly changes: Change[] = [];
  readonly locks = new Set<string>();
  status: "open" | "committing" | "ended" = "open";

  constructor(isolation: Isolation, startedAt: number, client: Run | null) {
    this.isolation = isolation;
    this.startedAt = startedAt;
    this.client = client;
  }
}

export interface WaitingFence {
  readonly migrationId: string;
  readonly granted: () => void;
  held: boolean;
}
