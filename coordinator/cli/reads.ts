/** `status`, `watch`, `routes`, `events`: looking, without deciding anything. */
import type { Command } from "commander";
import { CleaveError } from "../../protocol/errors.ts";
import type { StoredRecord } from "../api/ports.ts";
import { EVENTS_PAGE, type RouteRow } from "./client.ts";
import pc from "./colors.ts";
import { type Context, examples, sequence } from "./context.ts";
import { follow } from "./follow.ts";
import { plain } from "./format.ts";
import { clusterView, migrationView } from "./view.ts";
import { watch } from "./watch.ts";

export function registerReadCommands(program: Command, context: Context): void {
  program
    .command("status")
    .argument("[migration]", "only this one")
    .description("one screen: state, Pods and stores, lag, what it waits for, what may be done next")
    .addHelpText("after", examples("status", "status split-2026-11 --json"))
    .action(async (id?: string) => {
      const status = await context.client().status();
      if (id === undefined) return context.print(status, clusterView(status));
      const found = status.migrations.find((migration) => migration.migrationId === id);
      if (!found) throw new CleaveError("MIGRATION_UNKNOWN", `there is no migration ${id}`);
      context.print(found, migrationView(found, status.at));
    });

  program
    .command("watch")
    .argument("<migration>")
    .description(
      "follow a migration live, to its end; waits for operators and for a coordinator that restarts",
    )
    .addHelpText("after", examples("watch split-2026-11", "watch split-2026-11 --json   # one status a line"))
    .action(async (id: string) => {
      process.exitCode = await watch(context.client(), id, {
        json: context.json,
        until: "end",
        approve: false,
      });
    });

  program
    .command("routes")
    .argument("[organization]", "only this one")
    .description("which Pod is authoritative; with --json one route a line")
    .addHelpText("after", examples("routes", "routes gitlab-org", "routes --json"))
    .action((organization?: string) =>
      organization === undefined ? allRoutes(context) : oneRoute(context, organization),
    );

  program
    .command("events")
    .option("--after <sequence>", "only later ones", sequence, 0)
    .option("--follow", "go on with new ones")
    .description("the log: every decision, who made it, and when; with --json one record a line")
    .addHelpText("after", examples("events", "events --follow", "events --after 12 --json"))
    .action((options: { after: number; follow?: boolean }) =>
      options.follow ? followEvents(context, options.after) : listEvents(context, options.after),
    );
}

const routeText = (route: RouteRow) =>
  `${plain(route.organizationId)}  ${route.podId}  version ${route.version}`;

async function oneRoute(context: Context, organization: string): Promise<void> {
  const route = await context.client().route(organization);
  context.print(route, routeText(route));
}

async function allRoutes(context: Context): Promise<void> {
  const client = context.client();
  for (let after: string | null = null; ; ) {
    const page = await client.routes(after);
    if (after === null && !context.json)
      console.log(pc.dim(`every organization that is not listed: ${page.defaultPodId ?? "not configured"}`));
    for (const route of page.routes) console.log(context.json ? JSON.stringify(route) : routeText(route));
    if (page.next === null) return;
    after = page.next;
  }
}

function showRecord(context: Context, record: StoredRecord): void {
  if (context.json) {
    console.log(JSON.stringify(record));
    return;
  }
  const types = record.events.map((event) => (event.type === "Unknown" ? event.event.type : event.type));
  const number = String(record.sequence).padStart(5);
  const at = new Date(record.at).toISOString();
  console.log(`${number}  ${at}  ${plain(types.join(" + "))}  ${pc.dim(plain(record.by))}`);
}

async function listEvents(context: Context, from: number): Promise<void> {
  const client = context.client();
  for (let after = from; ; ) {
    const { records, complete } = await client.events(after);
    if (!complete)
      console.error(
        pc.yellow("earlier records are in the log, but this coordinator no longer has them at hand"),
      );
    for (const record of records) showRecord(context, record);
    const last = records.at(-1);
    if (!last || records.length < EVENTS_PAGE) return;
    after = last.sequence;
  }
}

async function followEvents(context: Context, from: number): Promise<void> {
  let after = from;
  await follow<StoredRecord, never>(context.client(), {
    path: () => `/v1/events?after=${after}`,
    onBroken: (why) => console.error(`the coordinator does not answer; still trying: ${plain(why)}`),
    onEvent: (record) => {
      showRecord(context, record);
      after = record.sequence;
      return undefined;
    },
  });
}
