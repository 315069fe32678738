/** Rows of a list of any length, fetched page by page as they are looked at. Pure but for the fetching it is given. */

export interface Page<Row> {
  readonly rows: readonly Row[];
  /** In all pages together. */
  readonly found: number;
  /** The cursor of the next page; null: this was the last. */
  readonly next: string | null;
}

/** One list, of one search; a changed search is another one. */
export class Rows<Row> {
  readonly #fetch: (after: string | null) => Promise<Page<Row>>;
  readonly #onChange: () => void;
  readonly loaded: Row[] = [];
  /** In all pages together; null before the first one is there. */
  found: number | null = null;
  /** Everything there is has been loaded. */
  complete = false;
  loading = false;
  problem: unknown = null;
  #after: string | null = null;

  constructor(fetch: (after: string | null) => Promise<Page<Row>>, onChange: () => void) {
    this.#fetch = fetch;
    this.#onChange = onChange;
  }

  /** Loads on until `index` is there or there is no more; one page at a time. */
  async want(index: number): Promise<void> {
    if (this.loading) return;
    this.loading = true;
    this.#onChange();
    try {
      while (!this.complete && this.loaded.length <= index) {
        const { rows, found, next } = await this.#fetch(this.#after);
        for (const row of rows) this.loaded.push(row);
        this.#after = next;
        this.found = found;
        this.complete = next === null;
        this.problem = null;
        this.#onChange();
      }
    } catch (error) {
      this.problem = error;
    } finally {
      this.loading = false;
      this.#onChange();
    }
  }
}

/** Rows in sight, and a few before and after them, so that a scroll finds them there. */
export function rowsInSight(
  scrolledPx: number,
  heightPx: number,
  rowPx: number,
  count: number,
): { from: number; to: number } {
  const from = Math.max(0, Math.floor(scrolledPx / rowPx) - OVERSCAN);
  return {
    from: Math.min(from, count),
    to: Math.min(count, Math.ceil((scrolledPx + heightPx) / rowPx) + OVERSCAN),
  };
}
const OVERSCAN = 8;
