/** `cleave`: the operator's command, over the coordinator's HTTP API. */
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { Command, CommanderError } from "commander";
import pc from "picocolors";
import { CleaveError, toCleaveError } from "../../protocol/errors.ts";
import { assignmentsOfPlan, parsePlan, withFiles } from "../plan-file.ts";
import { ApiClient } from "./client.ts";
import { EXIT } from "./exit.ts";
import { clusterView, findingsView, migrationView } from "./view.ts";
import { watch } from "./watch.ts";

const PLAN_EXAMPLE = `
Example of a plan (YAML or JSON):

  migration: split-2026-11
  source: pod-0
  assignments:
    - pod: pod-100
      organizations: [12, 17, gitlab-org]
    - pod: pod-101
      file: organizations-for-101.txt     # one organization a line
  settings:
    settlingMs: 5000                      # how long all targets have to be level
    cutover:
      approval: manual                    # or auto
      deadlineMs: 30000                   # read-only at most this long
      drainGraceMs: 1000                  # writers in flight may finish for this long
`;

const EXIT_CODES = `
Exit codes: 0 done, 1 error, 2 wrong usage, 3 refused or aborted, 4 the coordinator does not answer.
Environment: CLEAVE_URL (http://127.0.0.1:7400), CLEAVE_TOKEN, NO_COLOR.`;

const program = new Command("cleave")
  .description("Split a large Pod into many, online, without losing a write.")
  .option("--url <url>", "the coordinator's address", process.env["CLEAVE_URL"] ?? "http://127.0.0.1:7400")
  .option("--json", "print JSON", false)
  .addHelpText(
    "after",
    `\nDaemons and tools: cleave coordinator --config FILE, cleave agent --config FILE, cleave checksum REPOSITORY…\n${EXIT_CODES}`,
  )
  .showHelpAfterError("(cleave --help shows the commands)")
  .exitOverride();

const client = () => new ApiClient(program.opts<{ url: string }>().url, process.env["CLEAVE_TOKEN"]);
const asJson = () => program.opts<{ json: boolean }>().json;
const print = (value: unknown, text: string) => console.log(asJson() ? JSON.stringify(value, null, 2) : text);

async function readPlan(file: string) {
  const read = async (name: string) => {
    try {
      return await readFile(name, "utf8");
    } catch (error) {
      throw new CleaveError("PLAN_INVALID", `${name}: ${(error as Error).message}`, { cause: error });
    }
  };
  const plan = await withFiles(parsePlan(await read(file)), (name) => read(resolve(dirname(file), name)));
  return { plan, assignments: assignmentsOfPlan(plan) };
}

/** Runs the checks of an accepted plan and waits for their result. */
async function check(migrationId: string): Promise<number> {
  const api = client();
  await api.command(migrationId, "check");
  for (let status = await api.migration(migrationId); ; status = await api.migration(migrationId)) {
    if (status.lifecycle !== "preflight") {
      const failed = status.findings.some((finding) => finding.severity === "error");
      const verdict = failed
        ? pc.red("refused: nothing was changed")
        : pc.green("all checks passed; nothing was changed");
      print(
        { ok: !failed, findings: status.findings },
        `${findingsView(status.findings)}\n${verdict}`.trim(),
      );
      return failed ? EXIT.refused : EXIT.ok;
    }
    await new Promise((done) => setTimeout(done, 200));
  }
}

program
  .command("plan")
  .argument("<file>", "the plan, YAML or JSON")
  .option("--dry-run", "also run all checks on every Pod")
  .description("accept a plan: its organizations are claimed, nothing else is touched")
  .addHelpText("after", PLAN_EXAMPLE)
  .action(async (file: string, options: { dryRun?: boolean }) => {
    const { plan, assignments } = await readPlan(file);
    const accepted = await client().plan(plan);
    const perPod = new Map<string, number>();
    for (const pod of assignments.values()) perPod.set(pod, (perPod.get(pod) ?? 0) + 1);
    const shares = [...perPod].map(([pod, count]) => `  ${pod}: ${count} organizations`).join("\n");
    if (!options.dryRun) {
      print(
        accepted,
        `${accepted.migrationId} is planned, from ${plan.source}:\n${shares}\n${pc.dim(`next: cleave split ${file}, or cleave start ${accepted.migrationId}`)}`,
      );
      return;
    }
    process.exitCode = await check(accepted.migrationId);
  });

program
  .command("split")
  .argument("<file>", "the plan, YAML or JSON")
  .option("--dry-run", "run all checks, then stop")
  .option("--approve", "approve the cutover now: it begins as soon as all targets are level")
  .option("--watch", "follow it to the end")
  .description("accept a plan and start it")
  .addHelpText("after", PLAN_EXAMPLE)
  .action(async (file: string, options: { dryRun?: boolean; approve?: boolean; watch?: boolean }) => {
    const { plan } = await readPlan(file);
    const api = client();
    const { migrationId } = await api.plan(plan);
    if (options.dryRun) {
      process.exitCode = await check(migrationId);
      return;
    }
    const started = await api.command(migrationId, "start");
    if (options.approve) {
      process.exitCode = await approveWhenPossible(migrationId);
      if (process.exitCode !== EXIT.ok) return;
    }
    if (options.watch) {
      process.exitCode = await watch(api, migrationId, {
        json: asJson(),
        untilApproval: !options.approve && plan.settings.cutover.approval === "manual",
      });
      return;
    }
    print(started, `${migrationId} has started; follow it with: cleave watch ${migrationId}`);
  });

/** Approval is possible from `following` on; until then the preparation is watched. */
async function approveWhenPossible(migrationId: string): Promise<number> {
  const api = client();
  for (;;) {
    const status = await api.migration(migrationId);
    if (status.possibleCommands.includes("approve")) {
      await api.command(migrationId, "approve");
      return EXIT.ok;
    }
    if (status.lifecycle === "refused" || status.lifecycle === "aborted") {
      console.error(findingsView(status.findings) || status.reason || status.lifecycle);
      return EXIT.refused;
    }
    if (status.transfer || status.fence) return EXIT.ok;
    await new Promise((done) => setTimeout(done, 200));
  }
}

program
  .command("check")
  .argument("<migration>")
  .description("run all checks of a planned migration; changes nothing")
  .action(async (id: string) => {
    process.exitCode = await check(id);
  });

for (const [name, text, done] of [
  ["start", "start a planned migration", "has started"],
  ["approve", "approve one attempt of the cutover", "may cut over as soon as all targets are level"],
] as const) {
  program
    .command(name)
    .argument("<migration>")
    .description(text)
    .action(async (id: string) =>
      print(await client().command(id, name), `${id} ${done}; follow it with: cleave watch ${id}`),
    );
}

program
  .command("abort")
  .argument("<migration>")
  .requiredOption("--reason <text>", "goes into the log")
  .description("abort before the transfer: the source serves as before, what was made is removed")
  .action(async (id: string, { reason }: { reason: string }) =>
    print(await client().command(id, "abort", { reason }), `${id} is aborted; the source serves`),
  );

program
  .command("revoke")
  .argument("<migration>")
  .argument("<pod>", "a target that has not opened")
  .requiredOption("--reason <text>", "goes into the log")
  .description("give the share of a target that cannot open back to the source")
  .action(async (id: string, pod: string, { reason }: { reason: string }) =>
    print(await client().command(id, "revoke", { pod, reason }), `the share of ${pod} is the source's again`),
  );

program
  .command("status")
  .argument("[migration]")
  .description("one screen: state, Pods and stores, lag, what it waits for, what may be done next")
  .action(async (id?: string) => {
    const status = await client().status();
    if (id === undefined) return print(status, clusterView(status));
    const found = status.migrations.find((migration) => migration.migrationId === id);
    if (!found) throw new CleaveError("MIGRATION_UNKNOWN", `there is no migration ${id}`);
    print(found, migrationView(found, status.at));
  });

program
  .command("watch")
  .argument("<migration>")
  .description("follow a migration live, to its end")
  .action(async (id: string) => {
    process.exitCode = await watch(client(), id, { json: asJson(), untilApproval: false });
  });

program
  .command("routes")
  .argument("[organization]")
  .description("which Pod is authoritative")
  .action(async (organization?: string) => {
    if (organization !== undefined) {
      const route = await client().route(organization);
      return print(route, `${route.organizationId}  ${route.podId}  version ${route.version}`);
    }
    for (let after: string | null = null; ; ) {
      const page = await client().routes(after);
      if (after === null && !asJson())
        console.log(
          pc.dim(`every organization that is not listed: ${page.defaultPodId ?? "not configured"}`),
        );
      for (const route of page.routes)
        console.log(
          asJson()
            ? JSON.stringify(route)
            : `${route.organizationId}  ${route.podId}  version ${route.version}`,
        );
      if (page.next === null) return;
      after = page.next;
    }
  });

program
  .command("events")
  .option("--after <sequence>", "only later ones", "0")
  .option("--follow", "go on with new ones")
  .description("the log: every decision, who made it, and when")
  .action(async (options: { after: string; follow?: boolean }) => {
    const show = (record: {
      sequence: number;
      at: number;
      by: string;
      events: readonly { type: string }[];
    }) => {
      const types = record.events.map((event) => event.type).join(" + ");
      console.log(
        asJson()
          ? JSON.stringify(record)
          : `${String(record.sequence).padStart(5)}  ${new Date(record.at).toISOString()}  ${types}  ${pc.dim(record.by)}`,
      );
    };
    const after = Number(options.after);
    if (!Number.isSafeInteger(after) || after < 0)
      throw new CleaveError("REQUEST_INVALID", "--after takes a sequence number");
    if (!options.follow) {
      for (const record of await client().events(after)) show(record);
      return;
    }
    for await (const record of client().stream<Parameters<typeof show>[0]>(
      `/v1/events?after=${after}`,
      new AbortController().signal,
    ))
      show(record);
  });

export async function runCli(argv: readonly string[]): Promise<void> {
  try {
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
      return;
    }
    const known = toCleaveError(error);
    if (asJson())
      console.log(JSON.stringify({ error: known.code, message: known.message, nextStep: known.nextStep }));
    else
      console.error(
        `${pc.red("error")} ${known.code}: ${known.message}\n${pc.dim("next:")} ${known.nextStep}`,
      );
    process.exitCode = known.code === "COORDINATOR_UNREACHABLE" ? EXIT.unreachable : EXIT.error;
  }
}

if (import.meta.main) await runCli(process.argv.slice(2));
