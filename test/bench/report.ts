/** What every benchmark prints: figures, then `ratio NAME VALUE goal ≤ BOUND` lines, and the same as JSON. */

import { writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";

export interface Ratio {
  readonly name: string;
  readonly value: number;
  readonly goal: "≤" | "≥";
  readonly bound: number;
}

export class BenchReport {
  readonly #name: string;
  readonly #figures: { name: string; value: number; unit: string }[] = [];
  readonly #ratios: Ratio[] = [];

  constructor(name: string) {
    this.#name = name;
  }

  figure(name: string, value: number, unit: string): void {
    this.#figures.push({ name, value, unit });
    console.log(`${name.padEnd(44)} ${format(value).padStart(10)} ${unit}`);
  }

  ratio(name: string, value: number, goal: "≤" | "≥", bound: number): void {
    this.#ratios.push({ name, value, goal, bound });
  }

  /** Prints the ratios last. Benchmarks report and never fail on a figure: these machines are noisy. */
  finish(jsonFile: string | undefined): void {
    for (const { name, value, goal, bound } of this.#ratios)
      console.log(`ratio ${name} ${format(value)} goal ${goal} ${bound}`);
    if (jsonFile === undefined) return;
    const machine = {
      cores: cpus().length,
      model: cpus()[0]?.model ?? "unknown",
      memoryBytes: totalmem(),
      node: process.version,
    };
    writeFileSync(
      jsonFile,
      `${JSON.stringify({ benchmark: this.#name, machine, figures: this.#figures, ratios: this.#ratios }, null, 2)}\n`,
    );
  }
}

function format(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** The value below which `share` (0 to 1) of `values` lie; NaN for none. Nearest rank. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN;
}
