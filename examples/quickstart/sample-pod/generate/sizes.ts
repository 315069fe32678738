export interface SampleSizes {
  readonly organizations: number;
  /** About so many, over all tables. */
  readonly rows: number;
  /** Wikis included. */
  readonly repositories: number;
  readonly objects: number;
}

export const DEFAULT_SIZES: SampleSizes = {
  organizations: 12,
  rows: 300_000,
  repositories: 80,
  objects: 2_000,
};
