/** The API's description, OpenAPI 3.1, made from the schemas that requests and answers are checked by. */
import type { SwaggerOptions, SwaggerTransformObject } from "@fastify/swagger";
import { jsonSchemaTransform, jsonSchemaTransformObject } from "fastify-type-provider-zod";

/** Each schema comes as it is sent and as it is received; nobody needs those that nothing refers to. */
const transformObject: SwaggerTransformObject = (document) => {
  const { components, ...rest } = jsonSchemaTransformObject(document) as {
    components: { schemas: Record<string, unknown> };
    paths: unknown;
  };
  const used = new Set<string>();
  const note = (value: unknown): void => {
    for (const [, name = ""] of JSON.stringify(value).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
      if (used.has(name)) continue;
      used.add(name);
      note(components.schemas[name]);
    }
  };
  note(rest.paths);
  const schemas = Object.entries(components.schemas).filter(([name]) => used.has(name));
  const described = { ...rest, components: { ...components, schemas: Object.fromEntries(schemas) } };
  // What Fastify writes where nothing was said.
  const text = JSON.stringify(described).replaceAll(
    '"description":"Default Response"',
    '"description":"Done"',
  );
  return JSON.parse(text) as ReturnType<SwaggerTransformObject>;
};

export const DESCRIPTION: SwaggerOptions = {
  openapi: {
    openapi: "3.1.0",
    info: {
      title: "Cleave coordinator",
      version: "1",
      description:
        "Pods, plans, migrations, commands, routes and events. All times in milliseconds since 1970. What is refused is told as problem details (RFC 9457) with a code of docs/errors.md. New fields may be added to answers at any time; what is there stays as it is.",
    },
    components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
    security: [{ token: [] }],
  },
  transform: jsonSchemaTransform,
  transformObject,
};
