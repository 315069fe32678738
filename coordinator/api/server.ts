/** The coordinator's HTTP API. Schema first: what is checked is what `/docs/json` describes. */
import swagger from "@fastify/swagger";
import fastify, { type FastifyInstance, type FastifyPluginAsync } from "fastify";
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import { CleaveError } from "../../protocol/errors.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import { registerDashboard } from "../dashboard/serve.ts";
import { guardRoutes } from "./access.ts";
import { DESCRIPTION } from "./description.ts";
import { registerEventRoutes } from "./events.ts";
import { type HealthOptions, registerHealthRoutes } from "./health.ts";
import { answerOnce } from "./idempotency.ts";
import { type MetricsOptions, registerMetricsRoute } from "./metrics.ts";
import { registerMigrationReads } from "./migration-reads.ts";
import { registerMigrationRoutes } from "./migrations.ts";
import { registerPlanRoutes } from "./plans.ts";
import { registerPodRoutes } from "./pods.ts";
import type { CoordinatorService } from "./ports.ts";
import { toProblem } from "./problem.ts";
import type { AccessToken } from "./roles.ts";
import { registerRollbackRoutes } from "./rollback.ts";
import { registerRouteRoutes } from "./routes.ts";
import { registerStatusRoutes } from "./status.ts";

export interface ApiOptions extends HealthOptions {
  readonly service: CoordinatorService;
  /** None: none is asked for. */
  readonly tokens: readonly AccessToken[];
  /** Without: plain HTTP. */
  readonly tls?: ServerTls | null;
  readonly logger: Logger;
  readonly metrics?: MetricsOptions;
}

/** PEM: the certificate with those that it needs to be trusted, and its key. */
export interface ServerTls {
  readonly certificate: string;
  readonly key: string;
}

export type Api = FastifyInstance;

export async function createApi(options: ApiOptions): Promise<Api> {
  const { service, tokens, tls, logger } = options;
  const app = fastify({
    logger: false,
    https: tls == null ? null : { cert: tls.certificate, key: tls.key, minVersion: "TLSv1.2" },
    // Streams would otherwise keep the process from ending.
    forceCloseConnections: true,
    // An organization's 200 bytes, every one of them written as `%xx`.
    routerOptions: { maxParamLength: 600 },
  }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  await app.register(swagger, DESCRIPTION);
  app.setErrorHandler((error, request, reply) => {
    const problem = toProblem(error);
    request.refusal = { code: problem.code, message: problem.detail };
    if (problem.status >= 500) logger.error({ err: error, url: request.url }, problem.detail);
    if (problem.status === 401) reply.header("www-authenticate", "Bearer");
    if (problem.status === 503) reply.header("retry-after", "1");
    return reply
      .status(problem.status)
      .type("application/problem+json")
      .serializer(JSON.stringify)
      .send(problem);
  });
  app.setNotFoundHandler((request) => {
    throw new CleaveError("NOT_FOUND", `there is nothing at ${request.method} ${request.url}`);
  });
  registerHealthRoutes(app, options);
  const { metrics } = options;
  if (metrics !== undefined)
    await app.register((routes, _options, done) => {
      if (!metrics.public) guardRoutes(routes, tokens, logger);
      registerMetricsRoute(routes, metrics);
      done();
    });
  const guarded: FastifyPluginAsync = async (routes) => {
    guardRoutes(routes, tokens, logger);
    routes.addHook("onRequest", async () => requireReady(options));
    answerOnce(routes);
    registerMigrationRoutes(routes, service);
    registerRollbackRoutes(routes, service);
    registerStatusRoutes(routes, service);
    registerMigrationReads(routes, service);
    registerPodRoutes(routes, service);
    registerRouteRoutes(routes, service);
    registerEventRoutes(routes, service);
    // In a context of its own: there, and only there, bodies are plans.
    const plans: FastifyPluginAsync = async (own) => registerPlanRoutes(own, service);
    await routes.register(plans);
  };
  await app.register(guarded);
  registerDashboard(app);
  app.get("/docs/json", { schema: { hide: true } }, () => app.swagger());
  return app as unknown as Api;
}

/** @throws CleaveError NATS_UNREACHABLE. */
function requireReady({ ready, problem }: ApiOptions): void {
  if (!ready())
    throw problem() ?? new CleaveError("NATS_UNREACHABLE", "the coordinator is still reading the log");
}
