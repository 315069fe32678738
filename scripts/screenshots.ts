/** Makes the pictures of the dashboard in docs/images: `npm run screenshots`. A real coordinator, NATS and Chromium. */
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { BrowserContextOptions, Page } from "playwright-core";
import { startChromium } from "../test/support/coordinator/chromium.ts";
import { startDashboard, TARGETS } from "../test/support/coordinator/dashboard.ts";

const FOLDER = join(resolve(import.meta.dirname, ".."), "docs/images");
const ID = "split-2026-11";
mkdirSync(FOLDER, { recursive: true });

const fixture = await startDashboard();
const browser = await startChromium();
try {
  const open = async (options: BrowserContextOptions): Promise<Page> => {
    const context = await browser.newContext({ colorScheme: "light", reducedMotion: "reduce", ...options });
    const page = await context.newPage();
    await page.goto(`${fixture.url}/dashboard/#/migrations/${ID}`);
    await page.getByRole("heading", { level: 1 }).waitFor();
    return page;
  };
  const picture = async (page: Page, name: string) => {
    await page.screenshot({ path: join(FOLDER, name) });
    console.log(`docs/images/${name}`);
  };
  const organizations = (pod: string) =>
    Array.from(
      { length: 600 },
      (_, index) => `${pod === TARGETS[0] ? "acme" : "globex"}-${String(index).padStart(3, "0")}`,
    );
  let release = (): void => undefined;
  const held = new Promise<void>((done) => {
    release = done;
  });
  fixture.store("pod-100", "git").before = (duty) => (duty.goal === "match" ? held : undefined);
  await fixture.plan({
    migration: ID,
    assignments: TARGETS.map((pod) => ({ pod, organizations: organizations(pod) })),
  });
  await fixture.command(ID, "start");
  await fixture.reaches(ID, "ready");

  const desk = await open({ viewport: { width: 1180, height: 900 } });
  for (let second = 0; second < 12; second += 1) {
    const bytes = Math.round(700_000 + 420_000 * Math.sin(second / 2));
    fixture.store("pod-100", "postgres").show({ lag: { amount: bytes, unit: "bytes" } });
    fixture.store("pod-101", "postgres").show({ lag: { amount: Math.round(bytes / 3), unit: "bytes" } });
    await desk.waitForTimeout(1_000);
  }
  fixture.store("pod-101", "git").show({
    problems: [{ code: "GIT_UNREADABLE", message: "repository globex-017/site.git cannot be read" }],
  });
  await desk.getByRole("cell", { name: "problem" }).waitFor();
  await picture(desk, "dashboard.png");

  for (const store of fixture.stores()) store.show({});
  await fixture.reaches(ID, "ready");
  const phone = await open({
    viewport: { width: 360, height: 640 },
    deviceScaleFactor: 2,
    colorScheme: "dark",
  });
  await fixture.command(ID, "approve");
  await phone.getByText(/^Read-only for/).waitFor();
  await phone.getByRole("listitem").getByText("Git is catching up").waitFor();
  await picture(phone, "dashboard-window.png");
  release();
  await fixture.reaches(ID, "retaining");

  const past = await open({ viewport: { width: 1100, height: 640 } });
  await past.getByRole("slider").press("Home");
  for (let step = 0; step < 5; step += 1) await past.getByRole("slider").press("ArrowRight");
  await past.getByRole("button", { name: "Back to now" }).waitFor();
  await past.evaluate("document.activeElement.blur()");
  await picture(past, "dashboard-past.png");
} finally {
  await browser.close();
  await fixture.stop();
}
