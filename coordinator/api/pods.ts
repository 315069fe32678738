/** Pods and their agents: who was heard of when, and what each takes part in. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { CleaveError } from "../../protocol/errors.ts";
import { PodId } from "../../protocol/ids.ts";
import { viewer } from "./paging.ts";
import type { ClusterStatus, CoordinatorService } from "./ports.ts";
import { problems } from "./problem.ts";
import { OnePodAnswer, PodsAnswer } from "./schemas.ts";

export function registerPodRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/v1/pods",
    {
      ...viewer,
      schema: {
        summary: "All Pods: when their agents were heard of last, and what they take part in",
        response: { 200: PodsAnswer, ...problems() },
      },
    },
    () => {
      const status = service.status();
      const pods = status.pods.map((pod) => {
        const { migrations, ...rest } = podOf(service, status, pod);
        return { ...rest, migrations: migrations.map(({ stores: _views, ...one }) => one) };
      });
      return { at: status.at, pods };
    },
  );
  app.get(
    "/v1/pods/:id",
    {
      ...viewer,
      schema: {
        summary: "One Pod, with what its stores say of each migration",
        params: z.object({ id: PodId }),
        response: { 200: OnePodAnswer, ...problems("NOT_FOUND") },
      },
    },
    (request) => {
      const status = service.status();
      const pod = status.pods.find(({ podId }) => podId === request.params.id);
      if (!pod) throw new CleaveError("NOT_FOUND", `there is no Pod ${request.params.id} in the cluster`);
      return podOf(service, status, pod);
    },
  );
}

function podOf(
  service: CoordinatorService,
  status: ClusterStatus,
  pod: ClusterStatus["pods"][number],
): z.infer<typeof OnePodAnswer> {
  const migrations = status.migrations.flatMap(({ migrationId, lifecycle, pods }) =>
    pods
      .filter(({ podId }) => podId === pod.podId)
      .map(({ role, share, stores }) => ({ migrationId, lifecycle, role, share, stores })),
  );
  const { stores, defaultPodId } = service.state();
  return {
    ...pod,
    isDefault: pod.podId === defaultPodId,
    stores: stores.filter((store) => migrations.some((one) => (one.stores[store] ?? null) !== null)),
    migrations,
  };
}
