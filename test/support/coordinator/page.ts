/** A page of the dashboard in a real browser that notes everything that must not happen on it. */
import type { Browser, BrowserContextOptions, Page } from "playwright-core";

export interface WatchedPage {
  readonly page: Page;
  /** Requests to elsewhere, violations of the policy, errors of the script: empty on a good page. */
  wrongs(): Promise<string[]>;
}

/** What the notes of a page are kept in, inside of it. */
const NOTES = "cleaveTestNotes";

export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<WatchedPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const wrongs: string[] = [];
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== url) wrongs.push(`request to ${request.url()}`);
  });
  page.on("pageerror", (error) => wrongs.push(`error: ${error.message}`));
  await page.addInitScript(`
    globalThis.${NOTES} = [];
    addEventListener("securitypolicyviolation", (event) =>
      globalThis.${NOTES}.push("policy: " + event.violatedDirective + " " + event.blockedURI));
  `);
  await page.goto(`${url}/`);
  return {
    page,
    wrongs: async () => [...wrongs, ...((await page.evaluate(NOTES)) as string[])],
  };
}

interface TraceEvent {
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds that passed, and of these the ones that the thread had a processor. */
  readonly dur?: number;
  readonly tdur?: number;
  readonly args: { readonly name?: string };
}

/**
 * The longest tasks of the pages' main threads while `use` ran: as they would be on a machine that does nothing else,
 * and as they were. On a busy machine a task of a millisecond takes as long as others are let go first.
 */
export async function longestTasks(
  browser: Browser,
  page: Page,
  use: () => Promise<void>,
): Promise<{ tasks: number; processorMs: number; passedMs: number }> {
  await browser.startTracing(page, { categories: ["disabled-by-default-devtools.timeline", "__metadata"] });
  await use();
  const trace = JSON.parse((await browser.stopTracing()).toString()) as { traceEvents: TraceEvent[] };
  const thread = ({ pid, tid }: TraceEvent) => `${pid}/${tid}`;
  const main = new Set(
    trace.traceEvents
      .filter((event) => event.name === "thread_name" && event.args.name === "CrRendererMain")
      .map(thread),
  );
  const tasks = trace.traceEvents.filter((event) => event.name === "RunTask" && main.has(thread(event)));
  const longest = (of: "dur" | "tdur") =>
    Math.round(tasks.reduce((most, event) => Math.max(most, event[of] ?? 0), 0) / 1_000);
  return { tasks: tasks.length, processorMs: longest("tdur"), passedMs: longest("dur") };
}
