/** The dashboard in a real Chromium, on a real coordinator process, NATS and agents: a split from plan to end. */
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { hasChromium, startChromium } from "../../support/coordinator/chromium.ts";
import { type DashboardFixture, startDashboard } from "../../support/coordinator/dashboard.ts";
import { openPage } from "../../support/coordinator/page.ts";

const TOKEN = "a-token-for-this-test";

describe.skipIf(!hasChromium())("the dashboard", () => {
  let browser: Browser;
  let fixture: DashboardFixture | null = null;
  beforeAll(async () => {
    browser = await startChromium();
  });
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
    await fixture?.stop();
    fixture = null;
  });
  afterAll(() => browser?.close());

  it("follows a split live, approves it, goes back in time, and finalizes it", async () => {
    fixture = await startDashboard();
    const { page, wrongs } = await openPage(browser, fixture.url);
    await page.getByText("No migrations.").waitFor();
    expect(await page.getByRole("row", { name: /pod-100/ }).textContent()).toContain("reporting");

    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    fixture.store("pod-100", "git").before = (duty) => (duty.goal === "match" ? held : undefined);
    await fixture.plan({ migration: "split-1" });
    await page.getByText("waiting for an operator: start it, or check it first").waitFor();
    await page.getByRole("link", { name: "split-1" }).click();
    await page.getByRole("heading", { level: 1, name: /split-1.*planned/ }).waitFor();
    expect(await page.evaluate("document.activeElement.tagName"), "a reader is told of the new page").toBe(
      "H1",
    );

    await page.getByRole("button", { name: "Start…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
    await page.getByRole("heading", { level: 1, name: /ready/ }).waitFor();
    await page.getByRole("listitem").getByText("an operator: approve the cutover").waitFor();
    expect(await page.locator(".node.present").getAttribute("data-state")).toBe("ready");
    expect(await page.locator("[aria-live]").textContent()).toMatch(
      /split-1 is ready\. Waiting for an operator/,
    );

    fixture.store("pod-100", "postgres").show({ lag: { amount: 420_000, unit: "bytes" } });
    await page.getByRole("cell", { name: "420 kB behind" }).waitFor();
    await page.getByText(/Behind the source, bytes/).waitFor();
    fixture.store("pod-100", "postgres").show({});

    await page.getByRole("button", { name: "Approve the cutover…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Approve the cutover" }).click();
    await page.getByText(/^Read-only for/).waitFor();
    const [first, second] = [await windowText(), await page.waitForTimeout(300).then(windowText)];
    expect(first).toMatch(
      /Read-only for [\d.]+ m?s, epoch 1\. (2\d\.\d|30\.0) s until the source serves again/,
    );
    expect(second, "time passes").not.toBe(first);
    await page.getByRole("listitem").getByText("pod-100: Git is catching up to the fence").waitFor();
    release();
    await page.getByRole("heading", { level: 1, name: /retaining/ }).waitFor();
    await page.getByRole("rowheader", { name: "pod-101 serves" }).waitFor();

    const slider = page.getByRole("slider");
    await slider.focus();
    await page.keyboard.press("Home");
    await page.locator('[data-past-state="planned"]').waitFor();
    for (let step = 0; step < 4; step += 1) await page.keyboard.press("ArrowRight");
    await page.locator('[data-past-state="ready"]').waitFor();
    expect(await slider.getAttribute("aria-valuetext")).toMatch(/^all targets were within their bounds/);
    expect(await page.locator(".node.present").getAttribute("data-state")).toBe("ready");
    expect(await page.locator(".node.visited").count(), "what came later was not yet").toBe(4);
    expect(await page.getByRole("button", { name: "Finalize…" }).count(), "nothing is done in the past").toBe(
      0,
    );
    await page.getByRole("button", { name: "Back to now" }).click();

    await page.getByRole("button", { name: "Finalize…" }).click();
    const confirm = page.getByRole("dialog").getByRole("button", { name: "Finalize" });
    expect(await confirm.isDisabled()).toBe(true);
    await page.getByLabel(/to confirm/).fill("split-2");
    expect(await confirm.isDisabled(), "another migration's id").toBe(true);
    await page.getByLabel(/to confirm/).fill("split-1");
    await confirm.click();
    await page.getByRole("heading", { level: 1, name: /completed/ }).waitFor();
    await page.getByText("It waits for nothing.").waitFor();
    expect(await wrongs()).toEqual([]);

    function windowText(): Promise<string | null> {
      return page.locator(".fence").textContent();
    }
  });

  it("asks for a token, works by keyboard alone, and says when what it shows is old", async () => {
    fixture = await startDashboard({ token: TOKEN });
    await fixture.plan({ migration: "split-1" });
    const { page, wrongs } = await openPage(browser, fixture.url);
    const press = async (...keys: string[]) => {
      for (const key of keys) await page.keyboard.press(key);
    };
    await page.getByRole("dialog", { name: "Sign in" }).waitFor();
    expect(await page.locator("body").textContent()).not.toContain("split-1");
    await page.keyboard.type("not-the-right-token");
    await press("Enter");
    await page.getByText("The coordinator did not accept this token.").waitFor();
    await page.keyboard.type(TOKEN);
    await press("Tab");
    await page.keyboard.type("alice");
    await press("Enter");
    await page.getByRole("link", { name: "split-1" }).waitFor();
    await page.reload();
    await page.getByRole("link", { name: "split-1" }).waitFor();

    await press("Tab");
    expect(await focused()).toBe("Skip to the content");
    await press("Enter", "Tab");
    expect(await focused()).toBe("split-1");
    await press("Enter");
    await page.getByRole("button", { name: "Abort…" }).waitFor();
    for (let tabs = 0; (await focused()) !== "Abort…" && tabs < 20; tabs += 1) await press("Tab");
    await press("Enter");
    await page.getByRole("dialog").waitFor();
    await press("Escape");
    expect(await focused(), "where the reader was").toBe("Abort…");
    await press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.type("not tonight");
    await press("Tab");
    await page.keyboard.type("split-1");
    await press("Enter");
    await page.getByRole("heading", { level: 1, name: /aborted/ }).waitFor();
    await page
      .getByText(/aborted; the source serves as before because: not tonight operator:alice/)
      .waitFor();

    await fixture.endCoordinator("SIGKILL");
    await page.getByText(/^Not connected, as of/).waitFor();
    await page.getByRole("alert").getByText("What you see is old").waitFor();
    await fixture.startCoordinator();
    await page.getByText("Live", { exact: true }).waitFor();
    expect(await wrongs()).toEqual([]);

    function focused(): Promise<string> {
      return page.evaluate("document.activeElement.innerText.trim()");
    }
  });

  it("rolls one organization back, and says what a coordinator with a checkpoint cannot show", async () => {
    fixture = await startDashboard();
    await fixture.plan({
      migration: "split-1",
      settings: {
        settlingMs: 50,
        cutover: { approval: "auto", readLeaseMs: 200 },
        retention: { reverseReplication: "replicated" },
      },
    });
    await fixture.command("split-1", "start");
    await fixture.reaches("split-1", "retaining");
    const { page, wrongs } = await openPage(browser, fixture.url);
    await page.getByRole("link", { name: "split-1" }).click();
    await page.getByRole("heading", { name: "Reverse replication to pod-0" }).waitFor();
    const row = page.getByRole("row", { name: /org-2/ });
    await row.waitFor();
    expect(await row.getByRole("cell").allTextContents()).toEqual(["org-2", "pod-101", "pod-101"]);

    await page.getByRole("button", { name: "Roll back…" }).click();
    await page.getByLabel("Pod that has the organizations").selectOption("pod-101");
    await page.getByLabel(/^Organizations, one a line/).fill("org-1");
    await page.getByLabel(/to confirm/).fill("split-1");
    const confirm = page.getByRole("dialog").getByRole("button", { name: "Roll back" });
    await confirm.click();
    await page.getByRole("alert").getByText(/org-1/).waitFor();
    await page.getByLabel(/^Organizations, one a line/).fill("org-2");
    await confirm.click();
    await page.getByRole("heading", { level: 1, name: /split-1-back-1 .*retaining/ }).waitFor();
    await row.getByRole("cell", { name: "pod-0" }).nth(1).waitFor();
    expect(await row.getByRole("cell").allTextContents()).toEqual(["org-2", "pod-0", "pod-0"]);
    expect(await page.getByRole("columnheader", { name: "rows" }).count(), "no WAL is copied back").toBe(1);

    await fixture.endCoordinator("SIGTERM");
    await fixture.startCoordinator();
    await page.reload();
    await page.getByText(/^The coordinator began with a checkpoint/).waitFor();
    expect(await page.getByRole("slider").count()).toBe(0);
    expect(await page.locator(".node.present").getAttribute("data-state")).toBe("retaining");
    expect(await wrongs()).toEqual([]);
  });
});
