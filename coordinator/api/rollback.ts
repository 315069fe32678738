/** The way back: organizations return to the copy that was left behind, or nothing flows back to it any more. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { MigrationId, OrganizationId, PodId } from "../../protocol/ids.ts";
import { requireRole } from "./access.ts";
import { accepted, REFUSALS } from "./migrations.ts";
import type { CoordinatorService } from "./ports.ts";
import { problems } from "./problem.ts";
import { Accepted } from "./schemas.ts";

const Reason = z.string().min(1).max(2_000).describe("Goes into the log");
const Params = z.object({ id: MigrationId });

const Body = z.object({
  organizations: z
    .array(OrganizationId)
    .min(1)
    .max(1_000_000)
    .nullable()
    .default(null)
    .describe("Null: all that the Pod took over and still has"),
  pod: PodId.nullable()
    .default(null)
    .describe("Whose organizations go back; null: the Pod that has them, where it is one"),
  name: MigrationId.nullable().default(null).describe("Of the rollback; null: <id>-back-1, -2, …"),
  approval: z
    .enum(["auto", "manual"])
    .default("auto")
    .describe("`manual`: an operator approves the cutover once everything is level"),
  acceptLoss: Reason.nullable()
    .default(null)
    .describe(
      "The Pod is lost for ever and will not serve again: take over without evidence, for this reason",
    ),
});

export function registerRollbackRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.post(
    "/v1/migrations/:id/rollback",
    {
      config: { role: "operator" },
      schema: {
        summary: "Bring organizations back to the source, with everything that the new Pod changed since",
        description: "Answers with the rollback, a migration of its own: follow it as any other.",
        params: Params,
        body: Body,
        response: {
          200: Accepted,
          ...problems(
            ...REFUSALS,
            "ROLLBACK_TOO_LATE",
            "REVERSE_REPLICATION_GONE",
            "ORGANIZATION_CLAIMED",
            "PLAN_UNKNOWN_ORGANIZATION",
            "PLAN_INVALID",
            "PLAN_NOT_ON_SOURCE",
            "POD_BUSY",
            "MIGRATION_EXISTS",
          ),
        },
      },
    },
    async ({ params, body, caller }) => {
      if (body.acceptLoss !== null) requireRole(caller, "admin");
      const request = {
        of: params.id,
        as: body.name,
        organizations: body.organizations,
        podId: body.pod,
        approval: body.approval,
        acceptLoss: body.acceptLoss,
      };
      const { migrationId } = await service.rollback(request, caller.by);
      return accepted(service, migrationId);
    },
  );

  app.post(
    "/v1/migrations/:id/give-up",
    {
      config: { role: "admin" },
      schema: {
        summary:
          "Give reverse replication from a Pod up: nothing flows back, and its disk keeps no WAL for it",
        params: Params,
        body: z.object({ pod: PodId, reason: Reason }),
        response: { 200: Accepted, ...problems(...REFUSALS) },
      },
    },
    async ({ params, body, caller }) => {
      const command = { type: "giveUp", podId: body.pod, reason: body.reason } as const;
      await service.command(params.id, command, caller.by);
      return accepted(service, params.id);
    },
  );
}
