/** Plans and commands: everything that appends to the log. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { MigrationId, PodId } from "../../protocol/ids.ts";
import { Plan } from "../../protocol/plan.ts";
import { findMigration } from "../domain/commands.ts";
import { assignmentsOfPlan } from "../plan-file.ts";
import type { Command, CoordinatorService } from "../ports.ts";
import { Problem } from "./problem.ts";

const Accepted = z.object({ migrationId: MigrationId, lifecycle: z.string() });
const Reason = z.object({ reason: z.string().min(1).max(2_000).default("no reason given") });
const Params = z.object({ id: MigrationId });
const errors = { "4xx": Problem, "5xx": Problem };

/** `X-Cleave-Operator` names the person in the log; anything outside plain text is dropped. */
function actor(headers: Record<string, unknown>): string {
  const name = headers["x-cleave-operator"];
  const plain = typeof name === "string" ? name.replace(/[^\w.@ -]/g, "").slice(0, 100) : "";
  return `operator:${plain === "" ? "unnamed" : plain}`;
}

export function registerMigrationRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const accepted = (migrationId: MigrationId) => ({
    migrationId,
    lifecycle: findMigration(service.state(), migrationId).lifecycle,
  });

  app.post(
    "/v1/plans",
    {
      schema: {
        summary: "Accept a plan; its organizations are claimed, and nothing else is touched",
        consumes: ["application/json", "application/yaml"],
        querystring: z.object({
          dryRun: z.stringbool().default(false).describe("Run all checks as well, without starting"),
        }),
        body: Plan,
        response: { 201: Accepted, ...errors },
      },
    },
    async (request, reply) => {
      const by = actor(request.headers);
      const { migrationId } = await service.createPlan(request.body, assignmentsOfPlan(request.body), by);
      if (request.query.dryRun) await service.command(migrationId, { type: "check" }, by);
      return reply.status(201).send(accepted(migrationId));
    },
  );

  const simple = [
    ["check", "Run all checks (a dry run); the findings are in the migration's status"],
    ["start", "Run all checks and, if none fails, begin seeding"],
    ["approve", "Approve one attempt of the cutover"],
  ] as const;
  for (const [type, summary] of simple) {
    app.post(
      `/v1/migrations/:id/${type}`,
      { schema: { summary, params: Params, response: { 200: Accepted, ...errors } } },
      async (request) => {
        await service.command(request.params.id, { type }, actor(request.headers));
        return accepted(request.params.id);
      },
    );
  }

  app.post(
    "/v1/migrations/:id/abort",
    {
      schema: {
        summary: "Abort before the transfer; the source serves as before",
        params: Params,
        body: Reason,
        response: { 200: Accepted, ...errors },
      },
    },
    async (request) => {
      const command: Command = { type: "abort", reason: request.body.reason };
      await service.command(request.params.id, command, actor(request.headers));
      return accepted(request.params.id);
    },
  );

  app.post(
    "/v1/migrations/:id/revoke",
    {
      schema: {
        summary: "Give the share of a target that has not opened back to the source",
        params: Params,
        body: Reason.extend({ pod: PodId }),
        response: { 200: Accepted, ...errors },
      },
    },
    async (request) => {
      const command: Command = { type: "revoke", podId: request.body.pod, reason: request.body.reason };
      await service.command(request.params.id, command, actor(request.headers));
      return accepted(request.params.id);
    },
  );
}
