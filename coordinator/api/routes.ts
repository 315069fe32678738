/** Which Pod is authoritative for which organization. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { CleaveError } from "../../protocol/errors.ts";
import { OrganizationId } from "../../protocol/ids.ts";
import { PAGE_LIMIT, viewer } from "./paging.ts";
import type { CoordinatorService } from "./ports.ts";
import { problems } from "./problem.ts";
import { RouteAnswer, RoutePage } from "./schemas.ts";

export function registerRouteRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/v1/routes",
    {
      ...viewer,
      schema: {
        summary: "Organizations that a migration has moved, by id; the default Pod serves all others",
        querystring: z.object({
          after: OrganizationId.optional().describe("`next` of the page before"),
          limit: PAGE_LIMIT,
        }),
        response: { 200: RoutePage, ...problems() },
      },
    },
    async ({ query }) => ({
      defaultPodId: service.state().defaultPodId,
      ...(await service.routes(query.after ?? null, query.limit)),
    }),
  );
  app.get(
    "/v1/routes/:organization",
    {
      ...viewer,
      schema: {
        summary: "The authoritative Pod of one organization",
        params: z.object({ organization: OrganizationId }),
        response: { 200: RouteAnswer, ...problems("NOT_FOUND") },
      },
    },
    (request) => {
      const route = service.route(request.params.organization);
      if (!route) throw new CleaveError("NOT_FOUND", "the cluster is not configured yet");
      return route;
    },
  );
}
