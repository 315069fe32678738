/** The coordinator's HTTP API. Schema first: what is checked is what `/docs/json` describes. */
import { timingSafeEqual } from "node:crypto";
import swagger from "@fastify/swagger";
import fastify, { type FastifyInstance, type FastifyRequest } from "fastify";
import {
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from "fastify-type-provider-zod";
import { CleaveError } from "../../protocol/errors.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import type { CoordinatorService } from "../ports.ts";
import { registerHealthRoutes } from "./health.ts";
import { registerMigrationRoutes } from "./migrations.ts";
import { registerPlanRoutes } from "./plans.ts";
import { toProblem } from "./problem.ts";
import { registerReadRoutes } from "./reads.ts";

export interface ApiOptions {
  readonly service: CoordinatorService;
  /** The log is read and the coordinator decides; until then only /health, /ready and /docs/json answer. */
  readonly ready: () => boolean;
  /** Why NATS is out of reach; null while it answers. */
  readonly problem: () => CleaveError | null;
  /** Null: none is asked for. */
  readonly token: string | null;
  readonly logger: Logger;
}

export type Api = FastifyInstance;

export async function createApi(options: ApiOptions): Promise<Api> {
  const { service, logger } = options;
  const app = fastify({
    logger: false,
    // Streams would otherwise keep the process from ending.
    forceCloseConnections: true,
    // An organization's 200 bytes, every one of them written as `%xx`.
    routerOptions: { maxParamLength: 600 },
  }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Cleave coordinator",
        version: "1",
        description: "Plans, migrations, routes and events. All times in milliseconds since 1970.",
      },
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
      security: [{ token: [] }],
    },
    transform: jsonSchemaTransform,
  });
  app.setErrorHandler((error, request, reply) => {
    const problem = toProblem(error);
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
  // The checks hang on the routes themselves: a path can be written in more ways than one (`/%761/status`).
  await app.register((routes, _options, done) => {
    routes.addHook("onRequest", async (request) => admit(request, options));
    registerMigrationRoutes(routes, service);
    registerReadRoutes(routes, service);
    // In a context of its own: there, and only there, bodies are plans.
    routes.register((plans, _none, registered) => {
      registerPlanRoutes(plans, service);
      registered();
    });
    done();
  });
  app.get("/docs/json", { schema: { hide: true } }, () => app.swagger());
  return app as unknown as Api;
}

/** @throws CleaveError UNAUTHORIZED, REQUEST_INVALID or NATS_UNREACHABLE. */
function admit(request: FastifyRequest, { token, ready, problem }: ApiOptions): void {
  if (token !== null && !carries(request.headers.authorization, token))
    throw new CleaveError("UNAUTHORIZED", "the request carries no valid bearer token");
  // Without a token every page that is open in a browser of this machine could send commands here.
  if (token === null && request.method !== "GET" && request.headers.origin !== undefined)
    throw new CleaveError("REQUEST_INVALID", "commands from a browser's page need a token to be configured");
  if (!ready())
    throw problem() ?? new CleaveError("NATS_UNREACHABLE", "the coordinator is still reading the log");
}

function carries(authorization: string | undefined, token: string): boolean {
  const given = Buffer.from(authorization ?? "");
  const wanted = Buffer.from(`Bearer ${token}`);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}
