/** A random sample of names that come one by one, and work on it that ends in time. */
import { randomInt } from "node:crypto";

/** Each name that was offered is in it with the same chance. */
export class Sample {
  readonly names: string[] = [];
  readonly #size: number;
  #offered = 0;

  constructor(size: number) {
    this.#size = size;
  }

  offer(name: string): void {
    this.#offered += 1;
    if (this.names.length < this.#size) {
      this.names.push(name);
      return;
    }
    const at = randomInt(this.#offered);
    if (at < this.#size) this.names[at] = name;
  }
}

export function shuffled(names: readonly string[]): string[] {
  const all = [...names];
  for (let index = all.length - 1; index > 0; index--) {
    const other = randomInt(index + 1);
    [all[index], all[other]] = [all[other] as string, all[index] as string];
  }
  return all;
}

/** In turn, so many at once, as long as another may begin. */
export async function inParallel(
  concurrency: number,
  names: readonly string[],
  mayBegin: (begun: number) => boolean,
  work: (name: string) => Promise<void>,
): Promise<void> {
  const pending = names.values();
  let begun = 0;
  const worker = async () => {
    for (const name of pending) {
      if (!mayBegin(begun)) return;
      begun += 1;
      await work(name);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
}
