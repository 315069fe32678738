export interface AuditResult {
  readonly lostWrites: number;
  readonly duplicatedWrites: number;
  readonly checks: readonly import("./check.ts").Check[];
}
