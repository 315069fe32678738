/** The coordinator's HTTP API. Schema first: what is checked is what `/docs/json` describes. */
import { timingSafeEqual } from "node:crypto";
import swagger from "@fastify/swagger";
import fastify, { type FastifyInstance } from "fastify";
import {
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from "fastify-type-provider-zod";
import { CleaveError } from "../../protocol/errors.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import { parsePlan } from "../plan-file.ts";
import type { CoordinatorService } from "../ports.ts";
import { registerHealthRoutes } from "./health.ts";
import { registerMigrationRoutes } from "./migrations.ts";
import { toProblem } from "./problem.ts";
import { registerReadRoutes } from "./reads.ts";

/** A plan may name a million organizations. */
const BODY_LIMIT_BYTES = 64 * 1024 * 1024;

export interface ApiOptions {
  readonly service: CoordinatorService;
  /** The log is read and the coordinator decides; until then only /health answers. */
  readonly ready: () => boolean;
  /** Null: none is asked for. */
  readonly token: string | null;
  readonly logger: Logger;
}

export type Api = FastifyInstance;

export async function createApi(options: ApiOptions): Promise<Api> {
  const app = fastify({
    bodyLimit: BODY_LIMIT_BYTES,
    logger: false,
    forceCloseConnections: true,
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
  app.addContentTypeParser(
    ["application/yaml", "application/x-yaml", "text/yaml"],
    { parseAs: "string" },
    (_request, body, done) => {
      try {
        done(null, parsePlan(body as string));
      } catch (error) {
        done(error as Error);
      }
    },
  );
  app.setErrorHandler((error, request, reply) => {
    const problem = toProblem(error);
    if (problem.status >= 500) options.logger.error({ err: error, url: request.url }, problem.detail);
    if (problem.status === 401) reply.header("www-authenticate", "Bearer");
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
    routes.addHook("onRequest", async (request) => {
      if (options.token !== null && !carries(request.headers.authorization, options.token)) {
        throw new CleaveError("UNAUTHORIZED", "the request carries no valid bearer token");
      }
      if (!options.ready())
        throw new CleaveError("NATS_UNREACHABLE", "the coordinator has not read the log yet");
    });
    registerMigrationRoutes(routes, options.service);
    registerReadRoutes(routes, options.service);
    done();
  });
  app.get("/docs/json", { schema: { hide: true } }, () => app.swagger());
  return app as unknown as Api;
}

function carries(authorization: string | undefined, token: string): boolean {
  const given = Buffer.from(authorization ?? "");
  const wanted = Buffer.from(`Bearer ${token}`);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}
