/** The system's Chromium for tests of the dashboard and for the pictures in the docs. */
import { type Browser, chromium } from "playwright-core";
import { findChromium } from "../../../scripts/browser.mjs";

export const NO_CHROMIUM =
  "no Chromium was found: install it (Debian: apt-get install chromium) or set CHROMIUM to its path";

/** Whether tests that need it can run; says why not. */
export function hasChromium(): boolean {
  if (findChromium() !== null) return true;
  console.warn(`the dashboard's tests are skipped: ${NO_CHROMIUM}`);
  return false;
}

/** @throws Error when there is none. */
export async function startChromium(): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === null) throw new Error(NO_CHROMIUM);
  // As root it refuses to start with its sandbox, and what it shows here comes from this very process.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({
    executablePath,
    args: [...args, "--disable-dev-shm-usage", "--force-color-profile=srgb"],
  });
}
