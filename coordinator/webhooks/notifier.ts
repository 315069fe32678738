/**
 * Tells webhooks of the log's events: each in the log's order, at least once, for as long as it takes. It reads the log by
 * itself, so deciding never waits for a receiver. Several coordinators tell the same under the same ids.
 */
import { type ClusterState, emptyCluster } from "../../protocol/cluster.ts";
import { toCleaveError } from "../../protocol/errors.ts";
import { Pause } from "../../protocol/pause.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { EventLog, LogSubscription } from "../../protocol/ports/event-log.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import type { Webhook } from "./config.ts";
import { type Notification, notificationsOf, signatureOf } from "./notification.ts";
import type { FilePositions } from "./positions.ts";

const RETRY_MS = { first: 1_000, last: 60_000 } as const;

export interface NotifierOptions {
  readonly webhooks: readonly Webhook[];
  readonly log: EventLog;
  readonly positions: FilePositions;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onDelivery?: (webhook: string, outcome: "delivered" | "failed") => void;
}

interface Told {
  readonly sequence: number;
  readonly notifications: readonly Notification[];
}

export class WebhookNotifier {
  readonly #options: NotifierOptions;
  readonly #receivers: readonly Receiver[];
  readonly #stopping = new AbortController();
  #subscription: LogSubscription | null = null;
  #state: ClusterState = emptyCluster;
  #work: Promise<unknown> = Promise.resolve();

  constructor(options: NotifierOptions) {
    this.#options = options;
    this.#receivers = options.webhooks.map(
      (webhook) => new Receiver(webhook, options, this.#stopping.signal),
    );
  }

  /** Resolves when the log is being read; waits for it as long as it takes. */
  async start(): Promise<void> {
    const { log, positions } = this.#options;
    // A new one is told of what comes, not of all that ever was; also of what comes while this process is down.
    for (const { webhook } of this.#receivers)
      if (positions.of(webhook.name) === null) await positions.save(webhook.name, await this.#last());
    // From the beginning: what state an event led from and to is known by folding alone.
    this.#subscription = await log.subscribe(0, (record, sequence) => {
      const { state, notifications } = notificationsOf(this.#state, record, sequence);
      this.#state = state;
      for (const receiver of this.#receivers) receiver.add({ sequence, notifications });
    });
    this.#work = Promise.all(this.#receivers.map((receiver) => receiver.run()));
  }

  /** What is not delivered is told after the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const receiver of this.#receivers) receiver.wake();
    await this.#subscription?.close();
    await this.#work;
  }

  /** Per webhook, the records that it has not been told of yet. */
  pending(): ReadonlyMap<string, number> {
    return new Map(this.#receivers.map((receiver) => [receiver.webhook.name, receiver.pending]));
  }

  async #last(): Promise<number> {
    const { log, clock } = this.#options;
    for (;;) {
      try {
        return await log.lastSequence();
      } catch {
        await clock.sleep(500, this.#stopping.signal);
      }
    }
  }
}

class Receiver {
  readonly webhook: Webhook;
  readonly #options: NotifierOptions;
  readonly #signal: AbortSignal;
  readonly #queue: Told[] = [];
  readonly #pause: Pause;

  constructor(webhook: Webhook, options: NotifierOptions, signal: AbortSignal) {
    this.webhook = webhook;
    this.#options = options;
    this.#pause = new Pause(options.clock);
    this.#signal = signal;
  }

  get pending(): number {
    return this.#queue.length;
  }

  add({ sequence, notifications }: Told): void {
    if (sequence <= (this.#options.positions.of(this.webhook.name) ?? 0)) return;
    const { events } = this.webhook;
    const wanted = notifications.filter(
      ({ type }) => events === undefined || events.some((one) => one === type),
    );
    this.#queue.push({ sequence, notifications: wanted });
    this.wake();
  }

  wake(): void {
    this.#pause.wake();
  }

  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      this.#pause.look();
      const [next] = this.#queue;
      if (next === undefined) {
        await this.#pause.wait(null);
        continue;
      }
      for (const notification of next.notifications) await this.#deliver(notification);
      if (this.#signal.aborted) return;
      await this.#remember(next.sequence);
      this.#queue.shift();
    }
  }

  /** A receiver that is told twice drops what it knows; one that is told nothing knows nothing: so it is tried for ever. */
  async #deliver(notification: Notification): Promise<void> {
    const { clock, logger, onDelivery } = this.#options;
    const { name } = this.webhook;
    for (
      let waitMs: number = RETRY_MS.first;
      !this.#signal.aborted;
      waitMs = Math.min(waitMs * 2, RETRY_MS.last)
    ) {
      try {
        await this.#send(notification);
        onDelivery?.(name, "delivered");
        return;
      } catch (error) {
        if (this.#signal.aborted) return;
        onDelivery?.(name, "failed");
        const { sequence, migration, id } = notification;
        const about = { code: "WEBHOOK_FAILED", webhook: name, sequence, migration, id };
        logger.warn(about, `${toCleaveError(error).message}; tried again in ${waitMs / 1_000} s`);
        await clock.sleep(waitMs, this.#signal).catch(() => undefined);
      }
    }
  }

  async #send(notification: Notification): Promise<void> {
    const { url, secret, timeoutMs } = this.webhook;
    const body = JSON.stringify(notification);
    const signature =
      secret === null ? {} : { "cleave-signature": signatureOf(body, secret, this.#options.clock.now()) };
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", "cleave-notification": notification.id, ...signature },
      body,
      // Followed, it would tell somebody else.
      redirect: "error",
      signal: AbortSignal.any([this.#signal, AbortSignal.timeout(timeoutMs)]),
    });
    await response.body?.cancel();
    if (!response.ok) throw new Error(`the receiver answered ${response.status}`);
  }

  /** A full disk, say: forgotten, it would be told again after a restart, which is allowed. */
  async #remember(sequence: number): Promise<void> {
    const { positions, logger } = this.#options;
    try {
      await positions.save(this.webhook.name, sequence);
    } catch (error) {
      logger.error(
        { err: error, webhook: this.webhook.name },
        "what a webhook was told of cannot be written",
      );
    }
  }
}
