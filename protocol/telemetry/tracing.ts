/**
 * Spans of one process, made beside its loops: around its log and its stores. Without an SDK there is no such object, and
 * the loops stand on the plain ports.
 */
import {
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { LogRecord, ReadRecord } from "../events.ts";
import type { StoreName } from "../ids.ts";
import type { Clock } from "../ports/clock.ts";
import type { AppendResult, EventLog, LogSubscription } from "../ports/event-log.ts";
import type { Duty } from "../ports/store.ts";
import { STORE_STATES } from "../wording.ts";
import { TraceBook, type TracedRecord, type TracePoint } from "./trace-book.ts";

/** The SDK asks for ids; a record's span gets the one that all processes know. */
export class ChosenIds {
  readonly #random: (bytes: number) => string;
  #next: TracePoint | null = null;

  /** `random` gives so many random bytes in hexadecimal. */
  constructor(random: (bytes: number) => string) {
    this.#random = random;
  }

  /** For the spans that `make` starts. */
  using<T>(point: TracePoint, make: () => T): T {
    this.#next = point;
    try {
      return make();
    } finally {
      this.#next = null;
    }
  }

  readonly generateTraceId = (): string => this.#next?.traceId ?? this.#random(16);
  readonly generateSpanId = (): string => this.#next?.spanId ?? this.#random(8);
}

export interface TracingOptions {
  readonly tracer: Tracer;
  readonly ids: ChosenIds;
  readonly clock: Clock;
  /** On every span: who it is, for example `{ "cleave.pod": "pod-0" }`. */
  readonly attributes: Readonly<Record<string, string>>;
}

interface Delivered {
  readonly traced: TracedRecord;
  readonly startedAt: number;
}

export class Tracing {
  readonly #options: TracingOptions;
  readonly #book = new TraceBook();
  /** Appends without an answer yet, and what was delivered at their sequence meanwhile: theirs, or a rival's. */
  readonly #appending = new Map<number, Delivered | null>();
  /** What was in the log before this process came was told of by others. */
  #liveAfter: number | null = null;

  constructor(options: TracingOptions) {
    this.#options = options;
  }

  /** The same log, told of: who appended what, and when others had folded it. */
  around(inner: EventLog): EventLog {
    const { clock } = this.#options;
    return {
      append: async (record, expectedSequence): Promise<AppendResult> => {
        const startedAt = clock.now();
        const sequence = expectedSequence + 1;
        this.#appending.set(sequence, null);
        let ours = false;
        try {
          const result = await inner.append(record, expectedSequence);
          ours = result.outcome === "appended";
          return result;
        } finally {
          this.#appended(record, sequence, startedAt, ours);
        }
      },
      lastSequence: async () => {
        const last = await inner.lastSequence();
        this.#liveAfter ??= last;
        return last;
      },
      subscribe: async (afterSequence, onRecord): Promise<LogSubscription> => {
        await this.#readUpTo(inner, afterSequence);
        return await inner.subscribe(afterSequence, async (record, sequence) => {
          const startedAt = clock.now();
          const traced = this.#book.fold(record, sequence);
          // The answer to the append tells whose it is, and it may come while the record is folded.
          const waits = traced !== null && this.#appending.has(sequence);
          if (waits) this.#appending.set(sequence, { traced, startedAt });
          await onRecord(record, sequence);
          if (traced !== null && !waits) this.#folded(traced, startedAt);
        });
      },
    };
  }

  /** A store begins with a duty; the returned function tells how it ended. */
  reaching(duty: Duty, store: StoreName): (outcome: string, failure?: unknown) => void {
    const { clock } = this.#options;
    const parent = this.#book.newest(duty.migrationId);
    const startedAt = clock.now();
    const state = STORE_STATES[duty.goal];
    return (outcome, failure) => {
      if (parent === null) return;
      const attributes = {
        "cleave.migration": duty.migrationId,
        "cleave.store": store,
        "cleave.state": state,
        "cleave.outcome": outcome,
        ...(duty.epoch === null ? {} : { "cleave.epoch": duty.epoch }),
      };
      const span = this.#start(`${store} ${state}`, parent, startedAt, attributes);
      if (failure !== undefined) {
        const message = failure instanceof Error ? failure.message : String(failure);
        span.setStatus({ code: SpanStatusCode.ERROR, message });
      }
      span.end(new Date(clock.now()));
    };
  }

  #appended(record: LogRecord, sequence: number, startedAt: number, ours: boolean): void {
    const delivered = this.#appending.get(sequence) ?? null;
    this.#appending.delete(sequence);
    if (!ours) {
      if (delivered !== null) this.#folded(delivered.traced, delivered.startedAt);
      return;
    }
    const traced = delivered?.traced ?? this.#book.fold(record, sequence);
    if (traced === null) return;
    const what = traced.by.startsWith("operator:") ? "command" : "decide";
    const span = this.#options.ids.using(traced.point, () =>
      this.#start(`${what} ${traced.types.join("+")}`, traced.parent, startedAt, attributesOf(traced)),
    );
    span.end(new Date(this.#options.clock.now()));
  }

  #folded(traced: TracedRecord, startedAt: number): void {
    if (traced.sequence <= (this.#liveAfter ?? 0)) return;
    const name = `fold ${traced.types.join("+")}`;
    this.#start(name, traced.point, startedAt, attributesOf(traced)).end(new Date(this.#options.clock.now()));
  }

  #start(
    name: string,
    parent: TracePoint | null,
    startedAt: number,
    attributes: Record<string, string | number>,
  ): Span {
    const options = {
      startTime: new Date(startedAt),
      attributes: { ...this.#options.attributes, ...attributes },
    };
    return this.#options.tracer.startSpan(name, options, contextOf(parent));
  }

  /** A process that begins from a checkpoint has not seen the commands from which all follows: they are in the log. */
  async #readUpTo(inner: EventLog, sequence: number): Promise<void> {
    if (this.#book.sequence >= sequence) return;
    const done = Promise.withResolvers<void>();
    const subscription = await inner.subscribe(this.#book.sequence, (record: ReadRecord, at: number) => {
      if (at <= sequence) this.#book.fold(record, at);
      if (at >= sequence) done.resolve();
    });
    await done.promise.finally(() => subscription.close());
  }
}

function attributesOf({ migration, sequence, by }: TracedRecord): Record<string, string | number> {
  return { "cleave.migration": migration, "cleave.sequence": sequence, "cleave.by": by };
}

function contextOf(parent: TracePoint | null): Context {
  if (parent === null) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, { ...parent, traceFlags: TraceFlags.SAMPLED, isRemote: true });
}
