/** One thing that was looked at, and whether it was as it has to be. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** Numbers and positions, or what was wrong. */
  readonly detail: string;
}

/** A check of a list of faults: good when there is none; otherwise the first few are told. */
export function checkOf(name: string, faults: readonly string[], good: string): Check {
  if (faults.length === 0) return { name, ok: true, detail: good };
  const more = faults.length > 5 ? `; and ${faults.length - 5} more` : "";
  return { name, ok: false, detail: `${faults.slice(0, 5).join("; ")}${more}` };
}
