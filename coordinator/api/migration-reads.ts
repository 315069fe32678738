/** What there is to know of migrations: the list, one of them, its proofs, its past, its organizations. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { CleaveError } from "../../protocol/errors.ts";
import { MigrationId, OrganizationId, type StoreName } from "../../protocol/ids.ts";
import { isOver } from "../../protocol/migration-machine.ts";
import { findMigration } from "../domain/commands.ts";
import { historyOf } from "../domain/history.ts";
import { PAGE_LIMIT, viewer } from "./paging.ts";
import type { CoordinatorService, MigrationStatus, StoreView } from "./ports.ts";
import { problems } from "./problem.ts";
import {
  EvidenceAnswers,
  HistoryAnswer,
  MigrationAnswer,
  MigrationPage,
  OrganizationPage,
} from "./schemas.ts";

const params = z.object({ id: MigrationId });

export function registerMigrationReads(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/v1/migrations",
    {
      ...viewer,
      schema: {
        summary: "Migrations, the newest first",
        querystring: z.object({
          live: z.stringbool().optional().describe("true: only those that are not over; false: only others"),
          after: MigrationId.optional().describe("`next` of the page before"),
          limit: PAGE_LIMIT,
        }),
        response: { 200: MigrationPage, ...problems("MIGRATION_UNKNOWN") },
      },
    },
    ({ query }) => listOf(service, query),
  );
  app.get(
    "/v1/migrations/:id",
    {
      ...viewer,
      schema: {
        summary: "One migration",
        params,
        response: { 200: MigrationAnswer, ...problems("MIGRATION_UNKNOWN") },
      },
    },
    (request) => statusOf(service, request.params.id),
  );
  app.get(
    "/v1/migrations/:id/evidence",
    {
      ...viewer,
      schema: {
        summary: "What the transfer rests on, and what the Pods say now",
        params,
        response: { 200: EvidenceAnswers, ...problems("MIGRATION_UNKNOWN") },
      },
    },
    (request) => evidenceOf(service, request.params.id),
  );
  app.get(
    "/v1/migrations/:id/history",
    {
      ...viewer,
      schema: {
        summary: "Who decided what, when and why, from the log alone",
        params,
        response: { 200: HistoryAnswer, ...problems("MIGRATION_UNKNOWN", "HISTORY_INCOMPLETE") },
      },
    },
    (request) => pastOf(service, request.params.id),
  );
  app.get(
    "/v1/migrations/:id/organizations",
    {
      ...viewer,
      schema: {
        summary: "The migration's organizations, by id: where each is to go, and who serves it now",
        params,
        querystring: z.object({
          search: z.string().max(200).default("").describe("Only ids that begin so"),
          after: OrganizationId.optional().describe("`next` of the page before"),
          limit: PAGE_LIMIT,
        }),
        response: { 200: OrganizationPage, ...problems("MIGRATION_UNKNOWN") },
      },
    },
    async ({ params: { id }, query: { search, after = null, limit } }) => {
      const page = await service.organizations(id, { prefix: search, after, limit });
      const total = findMigration(service.state(), id).assignments.organizations;
      return { migrationId: id, total, ...page };
    },
  );
}

interface ListQuery {
  readonly live?: boolean | undefined;
  readonly after?: MigrationId | undefined;
  readonly limit: number;
}

function listOf(
  service: CoordinatorService,
  { live, after, limit }: ListQuery,
): z.infer<typeof MigrationPage> {
  const state = service.state();
  const all = Object.values(state.migrations)
    .filter(({ lifecycle }) => live === undefined || isOver(lifecycle) !== live)
    .sort((a, b) => b.plannedSequence - a.plannedSequence);
  // One that is over by now is still a place in the order.
  const last = after === undefined ? null : findMigration(state, after);
  const rest = all.filter(({ plannedSequence }) => last === null || plannedSequence < last.plannedSequence);
  const page = rest.slice(0, limit);
  const statuses = new Map(service.status().migrations.map((one) => [one.migrationId, one]));
  const migrations = page.flatMap(({ migrationId, context, plannedAt, plannedBy }) => {
    const status = statuses.get(migrationId);
    return status === undefined
      ? []
      : [{ ...status, targetPodIds: context.targetPodIds, plannedAt, plannedBy }];
  });
  return { migrations, next: rest.length > limit ? (page.at(-1)?.migrationId ?? null) : null };
}

function statusOf(service: CoordinatorService, id: MigrationId): MigrationStatus {
  const found = service.status().migrations.find(({ migrationId }) => migrationId === id);
  if (!found) throw new CleaveError("MIGRATION_UNKNOWN", `there is no migration ${id}`);
  return found;
}

function evidenceOf(service: CoordinatorService, id: MigrationId): z.infer<typeof EvidenceAnswers> {
  const { context } = findMigration(service.state(), id);
  const reported = statusOf(service, id).pods.map(({ podId, role, stores }) => {
    const views = Object.entries(stores) as [StoreName, StoreView | null][];
    const proofs = views.map(([store, view]) => [
      store,
      { evidence: view?.evidence ?? null, matched: view?.matched ?? null },
    ]);
    return { podId, role, stores: Object.fromEntries(proofs) as Record<StoreName, never> };
  });
  return { migrationId: id, epoch: context.fence?.epoch ?? null, consensus: context.evidence, reported };
}

/** @throws CleaveError MIGRATION_UNKNOWN, or HISTORY_INCOMPLETE after a start with a checkpoint. */
function pastOf(service: CoordinatorService, id: MigrationId): z.infer<typeof HistoryAnswer> {
  findMigration(service.state(), id);
  const records = service.events(0, Number.POSITIVE_INFINITY);
  if (records[0]?.sequence !== 1)
    throw new CleaveError(
      "HISTORY_INCOMPLETE",
      "the coordinator began with a checkpoint and has only later records",
    );
  // Folding all others as well would take time that decisions may need.
  const own = records.filter(({ events }) =>
    events.some((event) => {
      const known = event.type === "Unknown" ? event.event : event;
      return !("migrationId" in known) || known.migrationId === id;
    }),
  );
  return { migrationId: id, entries: historyOf(own, id) };
}
