/** Commands: an operator decides on one migration, and it is in the log when the answer comes. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { MigrationId, PodId } from "../../protocol/ids.ts";
import { findMigration } from "../domain/commands.ts";
import type { Command, CoordinatorService } from "../ports.ts";
import { PROBLEMS } from "./problem.ts";

export const Accepted = z.object({ migrationId: MigrationId, lifecycle: z.string() });
const Reason = z.object({ reason: z.string().min(1).max(2_000).describe("Goes into the log") });
const Params = z.object({ id: MigrationId });

/** `X-Cleave-Operator` names the person in the log; anything outside plain text is dropped. */
export function actor(headers: Record<string, unknown>): string {
  const name = headers["x-cleave-operator"];
  const plain = typeof name === "string" ? name.replace(/[^\w.@ -]/g, "").slice(0, 100) : "";
  return `operator:${plain === "" ? "unnamed" : plain}`;
}

export function accepted(service: CoordinatorService, migrationId: MigrationId): z.infer<typeof Accepted> {
  return { migrationId, lifecycle: findMigration(service.state(), migrationId).lifecycle };
}

export function registerMigrationRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const run = async (id: MigrationId, command: Command, headers: Record<string, unknown>) => {
    await service.command(id, command, actor(headers));
    return accepted(service, id);
  };

  const simple = [
    ["check", "Run all checks (a dry run); the findings are in the migration's status"],
    ["start", "Run all checks and, if none fails, begin seeding"],
    ["approve", "Approve one attempt of the cutover"],
    ["resume", "Go on with a migration that was paused"],
  ] as const;
  for (const [type, summary] of simple) {
    app.post(
      `/v1/migrations/:id/${type}`,
      { schema: { summary, params: Params, response: { 200: Accepted, ...PROBLEMS } } },
      (request) => run(request.params.id, { type }, request.headers),
    );
  }

  app.post(
    "/v1/migrations/:id/abort",
    {
      schema: {
        summary: "Abort before the transfer; the source serves as before",
        params: Params,
        body: Reason,
        response: { 200: Accepted, ...PROBLEMS },
      },
    },
    ({ params, body, headers }) => run(params.id, { type: "abort", reason: body.reason }, headers),
  );

  app.post(
    "/v1/migrations/:id/pause",
    {
      schema: {
        summary: "Decide and remove nothing until it is resumed; what follows goes on following",
        params: Params,
        body: Reason,
        response: { 200: Accepted, ...PROBLEMS },
      },
    },
    ({ params, body, headers }) => run(params.id, { type: "pause", reason: body.reason }, headers),
  );

  app.post(
    "/v1/migrations/:id/finalize",
    {
      schema: {
        summary: "End the retention: there is no way back from here, and what is dormant is removed",
        description:
          "All checks run first; one error, and the retention goes on. Findings are in the status.",
        params: Params,
        body: z.object({
          dryRun: z.boolean().default(false).describe("Only find out what would be removed"),
        }),
        response: { 200: Accepted, ...PROBLEMS },
      },
    },
    ({ params, body, headers }) => run(params.id, { type: "finalize", dryRun: body.dryRun }, headers),
  );

  app.post(
    "/v1/migrations/:id/revoke",
    {
      schema: {
        summary: "Give the share of a target that has not opened back to the source",
        params: Params,
        body: Reason.extend({ pod: PodId }),
        response: { 200: Accepted, ...PROBLEMS },
      },
    },
    ({ params, body, headers }) =>
      run(params.id, { type: "revoke", podId: body.pod, reason: body.reason }, headers),
  );
}
