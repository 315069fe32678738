/** A plan comes in as YAML or JSON, is read once, and its organizations are claimed. */
import type { FastifyInstance } from "fastify";
import { validatorCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { CleaveError } from "../../protocol/errors.ts";
import { Plan } from "../../protocol/plan.ts";
import { assignmentsOfPlan, parsePlan } from "../plans/plan-file.ts";
import { accepted, REFUSALS } from "./migrations.ts";
import type { CoordinatorService } from "./ports.ts";
import { problems } from "./problem.ts";
import { Accepted } from "./schemas.ts";

/** A million organizations. */
const BODY_LIMIT_BYTES = 64 * 1024 * 1024;
/** Reading more than this takes long enough to be seen in a read-only window. */
const LARGE_BODY_BYTES = 1024 * 1024;
const IN_CUTOVER: readonly string[] = ["fencing", "matching", "transferring", "activating"];

export function registerPlanRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    ["application/json", "application/yaml", "application/x-yaml", "text/yaml"],
    { parseAs: "string", bodyLimit: BODY_LIMIT_BYTES },
    (_request, body, done) => {
      try {
        // Again, since receiving it took its time, and reading it now stops everything else.
        if (body.length > LARGE_BODY_BYTES) refuseInCutover(service);
        done(null, parsePlan(body as string));
      } catch (error) {
        done(error as Error);
      }
    },
  );
  app.post(
    "/v1/plans",
    {
      config: { role: "operator" },
      schema: {
        summary: "Accept a plan; its organizations are claimed, and nothing else is touched",
        description: `The same plan again changes nothing. YAML up to 1 MiB, JSON up to 64 MiB; plans of more than 1 MiB are not accepted while a migration is cut over.`,
        consumes: ["application/json", "application/yaml"],
        querystring: z.object({
          dryRun: z
            .stringbool()
            .default(false)
            .describe(
              "Also begin all checks, as POST …/check does; the status has the findings when they are done",
            ),
        }),
        body: Plan,
        response: {
          201: Accepted,
          ...problems(
            ...REFUSALS,
            "PLAN_INVALID",
            "PLAN_ORGANIZATION_TWICE",
            "PLAN_UNKNOWN_POD",
            "PLAN_NOT_ON_SOURCE",
            "ORGANIZATION_CLAIMED",
            "MIGRATION_EXISTS",
            "POD_BUSY",
          ),
        },
      },
      bodyLimit: BODY_LIMIT_BYTES,
      // The body was checked where its lines were known; a million organizations are not checked twice.
      validatorCompiler: (route) =>
        route.httpPart === "body" ? (value: unknown) => ({ value }) : validatorCompiler(route as never),
      onRequest: async (request) => {
        const length = request.headers["content-length"];
        if (length === undefined || Number(length) > LARGE_BODY_BYTES) refuseInCutover(service);
      },
    },
    async (request, reply) => {
      const { by } = request.caller;
      const { migrationId } = await service.createPlan(request.body, assignmentsOfPlan(request.body), by);
      if (request.query.dryRun) await service.command(migrationId, { type: "check" }, by);
      return reply.status(201).send(accepted(service, migrationId));
    },
  );
}

function refuseInCutover(service: CoordinatorService): void {
  const busy = Object.values(service.state().migrations).find((migration) =>
    IN_CUTOVER.includes(migration.lifecycle),
  );
  if (!busy) return;
  throw new CleaveError(
    "POD_BUSY",
    `${busy.migrationId} is being cut over: a plan of this size is accepted when that is done`,
  );
}
