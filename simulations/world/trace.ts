/** What happened: a running hash of everything, and the newest lines for a reader. */

const KEPT_LINES = 400;

export class Trace {
  #high = 0x9dc5811c;
  #low = 0x811c9dc5;
  readonly #lines: string[] = [];
  readonly #echo: ((line: string) => void) | null;

  constructor(echo: ((line: string) => void) | null) {
    this.#echo = echo;
  }

  /** Goes into the hash alone: one of the many small events. */
  mark(at: number, label: string): void {
    this.#mix((at * 1024) | 0);
    for (let i = 0; i < label.length; i++) this.#mix(label.charCodeAt(i));
  }

  /** A line of the story: what a reader needs to understand a failure. */
  say(at: number, who: string, what: string): void {
    const line = `${(at / 1000).toFixed(3).padStart(9)} s  ${who.padEnd(8)} ${what}`;
    this.mark(at, line);
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES * 2) this.#lines.splice(0, KEPT_LINES);
    this.#echo?.(line);
  }

  newest(count: number): string[] {
    return this.#lines.slice(-count);
  }

  get hash(): string {
    return (this.#high >>> 0).toString(16).padStart(8, "0") + (this.#low >>> 0).toString(16).padStart(8, "0");
  }

  #mix(value: number): void {
    this.#low = Math.imul(this.#low ^ value, 0x01000193);
    this.#high = Math.imul(this.#high ^ (value + (this.#low >>> 13)), 0x85ebca6b);
  }
}
