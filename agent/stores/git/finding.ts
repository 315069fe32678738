/** What a check of the Git store says. */
import type { Finding } from "../../../protocol/evidence.ts";

export function finding(
  code: Finding["code"],
  message: string,
  severity: Finding["severity"] = "error",
): Finding {
  return { store: "git", severity, code, message: message.slice(0, 2_000) };
}
