/** Commands: an operator decides on one migration, and it is in the log when the answer comes. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { MigrationId, PodId } from "../../protocol/ids.ts";
import { findMigration } from "../domain/commands.ts";
import { type Caller, requireRole } from "./access.ts";
import type { Command, CoordinatorService } from "./ports.ts";
import { problems } from "./problem.ts";
import { Accepted } from "./schemas.ts";

const Reason = z.object({ reason: z.string().min(1).max(2_000).describe("Goes into the log") });
const Params = z.object({ id: MigrationId });

/** What a decision about a migration may be refused for. */
export const REFUSALS = [
  "MIGRATION_UNKNOWN",
  "COMMAND_NOT_POSSIBLE",
  "MESSAGE_VERSION_UNKNOWN",
  "IDEMPOTENCY_KEY_REUSED",
  "LOG_APPEND_UNKNOWN",
] as const;

export function accepted(service: CoordinatorService, migrationId: MigrationId): z.infer<typeof Accepted> {
  return { migrationId, lifecycle: findMigration(service.state(), migrationId).lifecycle };
}

export function registerMigrationRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const run = async (id: MigrationId, command: Command, caller: Caller) => {
    await service.command(id, command, caller.by);
    return accepted(service, id);
  };
  // Whoever may begin and cut over may also stop it; what cannot be taken back is for admins.
  const operator = { config: { role: "operator" } } as const;
  const admin = { config: { role: "admin" } } as const;

  const simple = [
    ["check", "Run all checks (a dry run); the findings are in the migration's status"],
    ["start", "Run all checks and, if none fails, begin seeding"],
    ["approve", "Approve one attempt of the cutover"],
    ["resume", "Go on with a migration that was paused"],
  ] as const;
  for (const [type, summary] of simple) {
    app.post(
      `/v1/migrations/:id/${type}`,
      {
        ...operator,
        schema: { summary, params: Params, response: { 200: Accepted, ...problems(...REFUSALS) } },
      },
      (request) => run(request.params.id, { type }, request.caller),
    );
  }

  app.post(
    "/v1/migrations/:id/abort",
    {
      ...operator,
      schema: {
        summary: "Abort before the transfer; the source serves as before",
        params: Params,
        body: Reason,
        response: { 200: Accepted, ...problems(...REFUSALS, "ABORT_AFTER_TRANSFER") },
      },
    },
    ({ params, body, caller }) => run(params.id, { type: "abort", reason: body.reason }, caller),
  );

  app.post(
    "/v1/migrations/:id/pause",
    {
      ...operator,
      schema: {
        summary: "Decide and remove nothing until it is resumed; what follows goes on following",
        params: Params,
        body: Reason,
        response: { 200: Accepted, ...problems(...REFUSALS) },
      },
    },
    ({ params, body, caller }) => run(params.id, { type: "pause", reason: body.reason }, caller),
  );

  app.post(
    "/v1/migrations/:id/finalize",
    {
      ...operator,
      schema: {
        summary: "End the retention: there is no way back from here, and what is dormant is removed",
        description:
          "All checks run first; one error, and the retention goes on. Findings are in the status. Anything but a dry run needs the role `admin`.",
        params: Params,
        body: z.object({
          dryRun: z.boolean().default(false).describe("Only find out what would be removed"),
          despiteReverseReplication: z
            .boolean()
            .default(false)
            .describe("Also where what was left behind is not level with what the new Pods have"),
        }),
        response: { 200: Accepted, ...problems(...REFUSALS, "ORGANIZATION_CLAIMED") },
      },
    },
    ({ params, body, caller }) => {
      if (!body.dryRun) requireRole(caller, "admin");
      return run(params.id, { type: "finalize", ...body }, caller);
    },
  );

  app.post(
    "/v1/migrations/:id/revoke",
    {
      ...admin,
      schema: {
        summary: "Give the share of a target that has not opened back to the source",
        params: Params,
        body: Reason.extend({ pod: PodId }),
        response: { 200: Accepted, ...problems(...REFUSALS) },
      },
    },
    ({ params, body, caller }) =>
      run(params.id, { type: "revoke", podId: body.pod, reason: body.reason }, caller),
  );
}
