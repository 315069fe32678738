/** What somebody does who has read the README alone: follows a split on the page, and rolls one organization back from it. */
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Layout } from "../../examples/quickstart/cluster/layout.ts";
import { ROLLBACK } from "../../examples/quickstart/run-rollback.ts";
import { MIGRATION } from "../../examples/quickstart/split.ts";
import { hasChromium, startChromium } from "../support/coordinator/chromium.ts";
import { openPage, type WatchedPage } from "../support/coordinator/page.ts";
import { smallRollback } from "../support/small-split.ts";

/** Copies are made meanwhile. */
const LONG = { timeout: 120_000 };

describe.skipIf(!hasChromium())("a walk through the page", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await startChromium();
  });
  afterAll(() => browser?.close());

  async function signedIn(layout: Layout): Promise<WatchedPage> {
    const watched = await openPage(browser, layout.coordinatorUrl);
    const dialog = watched.page.getByRole("dialog", { name: "Sign in" });
    await dialog.getByLabel("Token").fill(layout.token);
    await dialog.getByLabel("Your name").fill("newcomer");
    await dialog.getByRole("button", { name: "Sign in" }).click();
    await watched.page.getByText("No migrations.").waitFor();
    return watched;
  }

  const heading = (page: Page, words: RegExp) => page.getByRole("heading", { level: 1, name: words });

  /** @returns the states that the page showed. */
  async function follow(page: Page): Promise<Set<string>> {
    await page.getByRole("link", { name: MIGRATION }).click(LONG);
    const seen = new Set<string>();
    const look = async () =>
      seen.add((await page.locator(".node.present").getAttribute("data-state", LONG)) ?? "");
    const arrived = heading(page, /retaining/).waitFor(LONG);
    for (let over = false; !over; ) {
      await look();
      over = await Promise.race([arrived.then(() => true), page.waitForTimeout(50).then(() => false)]);
    }
    // It may have come since the last look.
    await look();
    return seen;
  }

  it("shows a split from its plan to its end, takes one organization back, and nothing is lost", async () => {
    let watched: WatchedPage | undefined;
    let following: Promise<Set<string>> | undefined;
    const report = await smallRollback({
      first: async ({ layout }) => {
        watched = await signedIn(layout);
        following = follow(watched.page);
        // Awaited below, when the split is over.
        following.catch(() => undefined);
      },
      rollBack: async (organizations) => {
        const { page } = watched as WatchedPage;
        const seen = await following;
        for (const state of ["seeding", "following", "retaining"]) expect(seen).toContain(state);
        await page.getByRole("rowheader", { name: "pod-101 serves" }).waitFor();
        await page.getByRole("button", { name: "Roll back…" }).click();
        const dialog = page.getByRole("dialog");
        await dialog.getByLabel(/^Organizations, one a line/).fill(organizations.join("\n"));
        await dialog.getByLabel(/to confirm$/).fill(MIGRATION);
        await dialog.getByRole("button", { name: "Roll back" }).click();
        await heading(page, new RegExp(ROLLBACK)).waitFor();
        await heading(page, /retaining/).waitFor(LONG);
        await page.getByRole("rowheader", { name: "pod-0 serves" }).waitFor();
      },
      afterwards: async (coordinator) => {
        const planned = (await coordinator.events()).find(({ type }) => type === "RollbackPlanned");
        expect(planned).toMatchObject({ migrationId: ROLLBACK });
        expect(await coordinator.cleave("history", ROLLBACK)).toContain("operator:newcomer");
      },
    });
    expect(report).toMatchObject({ lostWrites: 0, duplicatedWrites: 0, staleReads: 0, failedRequests: 0 });
    expect(await watched?.wrongs()).toEqual([]);
  }, 400_000);
});
