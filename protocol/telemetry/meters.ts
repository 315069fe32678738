/** The metrics of one process, made from the catalogue: a name that is not in it does not compile. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { invariant } from "../errors.ts";
import { type Exposer, METRICS, type MetricKind, type MetricName, type MetricSpec } from "./catalogue.ts";

type NamesOf<K extends MetricKind> = {
  [N in MetricName]: (typeof METRICS)[N]["kind"] extends K ? N : never;
}[MetricName];
type Labels<N extends MetricName> = Record<(typeof METRICS)[N]["labels"][number], string>;

export interface MetersOptions {
  readonly exposer: Exclude<Exposer, "both">;
  /** On every series, for example `{ pod: "pod-0" }`. */
  readonly labels?: Record<string, string>;
  /** Also what the process itself uses: processor, memory, event loop. */
  readonly ofProcess?: boolean;
}

export class Meters {
  readonly #registry = new Registry();
  readonly #exposer: Exposer;
  readonly #collectors: (() => void)[] = [];

  constructor({ exposer, labels = {}, ofProcess = false }: MetersOptions) {
    this.#exposer = exposer;
    this.#registry.setDefaultLabels(labels);
    for (const [name, spec] of Object.entries(METRICS) as [MetricName, MetricSpec][]) {
      if (spec.by !== exposer && spec.by !== "both") continue;
      const common = {
        name,
        help: spec.help,
        labelNames: [...spec.labels],
        registers: [this.#registry],
      };
      if (spec.kind === "gauge") new Gauge(common);
      else if (spec.kind === "counter") new Counter(common);
      else new Histogram({ ...common, buckets: [...(spec.buckets ?? [])] });
    }
    if (ofProcess) collectDefaultMetrics({ register: this.#registry });
  }

  set<N extends NamesOf<"gauge">>(name: N, labels: Labels<N>, value: number): void {
    this.#named(name, Gauge).set(labels, value);
  }

  /** Forgets the series of a gauge: what it said of is over. */
  clear(...names: NamesOf<"gauge">[]): void {
    for (const name of names) this.#named(name, Gauge).reset();
  }

  count<N extends NamesOf<"counter">>(name: N, labels: Labels<N>, amount = 1): void {
    this.#named(name, Counter).inc(labels, amount);
  }

  /** In the unit of the metric's name: seconds. */
  observe<N extends NamesOf<"histogram">>(name: N, labels: Labels<N>, value: number): void {
    this.#named(name, Histogram).observe(labels, value);
  }

  /** `collect` is called before every scrape, to set gauges from what is known then. */
  onScrape(collect: () => void): void {
    this.#collectors.push(collect);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** In Prometheus' text format. */
  async scrape(): Promise<string> {
    for (const collect of this.#collectors) collect();
    return await this.#registry.metrics();
  }

  #named<T>(name: MetricName, kind: abstract new (...args: never[]) => T): T {
    const metric: unknown = this.#registry.getSingleMetric(name);
    invariant(metric instanceof kind, `${name} is no metric of the ${this.#exposer}`);
    return metric;
  }
}
