export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}
export function countsOf(results: unknown, exitCode: number): Counts;
export function runChecks(
  root: string,
  node: string,
  options: { tests: boolean; vitestArguments: string[] },
): Promise<number>;
