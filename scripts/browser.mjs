/** Chromium, for the dashboard's tests and pictures. Nothing else needs it, so nothing else waits for it. */
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { installWithApt } from "./apt.mjs";
import { say } from "./say.mjs";
import { onPath } from "./servers.mjs";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const PLACES = ["/usr/bin", "/snap/bin"];
const APPLICATIONS = [
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
];

/** Its path, or null where none is installed. `CHROMIUM` overrides the search. */
export function findChromium() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const folders = [...(process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== ""), ...PLACES];
  const candidates = folders.flatMap((folder) => NAMES.map((name) => join(folder, name)));
  return [...candidates, ...APPLICATIONS].find(isExecutable) ?? null;
}

/** Installs it on Debian; elsewhere, or where that fails, says what will be skipped. Never throws. */
export function ensureBrowser() {
  if (findChromium() !== null) return;
  try {
    // A font comes along: without any, a page has no letters.
    if (existsSync("/etc/debian_version") && onPath("apt-get"))
      installWithApt(["chromium", "fonts-dejavu-core"]);
  } catch (error) {
    say(error.message);
  }
  if (findChromium() === null)
    say("no Chromium: the dashboard's tests are skipped (CHROMIUM=PATH names one that is elsewhere)");
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
