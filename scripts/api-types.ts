/**
 * TypeScript types of an OpenAPI 3.1 description, in the form that `openapi-fetch` works with. It knows the part of JSON
 * Schema that Zod writes and refuses the rest. docs/decisions/021 says why it is not a package.
 */

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly items?: Schema;
  readonly prefixItems?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly propertyNames?: Schema;
  readonly additionalProperties?: Schema | boolean;
  readonly description?: string;
}
type Content = Readonly<Record<string, { readonly schema: Schema }>>;
interface Parameter {
  readonly in: string;
  readonly name: string;
  readonly required?: boolean;
  readonly schema: Schema;
}
interface Operation {
  readonly summary?: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Content; readonly required?: boolean };
  readonly responses: Readonly<Record<string, { readonly content?: Content }>>;
}
export interface Description {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

const HEAD = `/** The API as its clients see it. Generated from docs/openapi.json by \`npm run docs\`; not to be edited. */`;

/** @throws Error for a schema that it does not know. */
export function apiTypes({ paths, components }: Description): string {
  const schemas = Object.entries(components.schemas).map(([name, schema]) => property(name, schema, true));
  const operations = Object.entries(paths).map(([path, methods]) => {
    const own = Object.entries(methods).map(
      ([method, operation]) => `${comment(operation.summary)}${method}: ${operationType(operation)};`,
    );
    return `${JSON.stringify(path)}: {\n${own.join("\n")}\n};`;
  });
  return [
    HEAD,
    "",
    `export interface components {\nschemas: {\n${schemas.join("\n")}\n};\n}`,
    "",
    `export interface paths {\n${operations.join("\n")}\n}`,
    "",
  ].join("\n");
}

function operationType({ parameters = [], requestBody, responses }: Operation): string {
  const places = ["query", "header", "path"].flatMap((place) => {
    const own = parameters.filter((parameter) => parameter.in === place);
    if (own.length === 0) return [];
    const optional = own.every(({ required }) => !required);
    const fields = own.map(({ name, required, schema }) => property(name, schema, required ?? false));
    return [`${place}${optional ? "?" : ""}: {\n${fields.join("\n")}\n};`];
  });
  const body =
    requestBody === undefined
      ? ""
      : `requestBody${requestBody.required ? "" : "?"}: { content: ${contentType(requestBody.content)} };\n`;
  const answers = Object.entries(responses).map(
    ([status, { content = {} }]) => `${status}: { content: ${contentType(content)} };`,
  );
  return `{\nparameters: {\n${places.join("\n")}\n};\n${body}responses: {\n${answers.join("\n")}\n};\n}`;
}

function contentType(content: Content): string {
  const types = Object.entries(content).map(
    ([type, { schema }]) => `${JSON.stringify(type)}: ${typeOf(schema)};`,
  );
  return `{ ${types.join(" ")} }`;
}

function property(name: string, schema: Schema, required: boolean): string {
  const key = /^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name);
  return `${comment(schema.description)}${key}${required ? "" : "?"}: ${typeOf(schema)};`;
}

function comment(text: string | undefined): string {
  return text === undefined ? "" : `/** ${text.replaceAll("*/", "*\\/").replaceAll("\n", " ")} */\n`;
}

function typeOf(schema: Schema): string {
  if (schema.$ref !== undefined)
    return `components["schemas"][${JSON.stringify(schema.$ref.split("/").at(-1))}]`;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  const choice = schema.anyOf ?? schema.oneOf;
  if (choice !== undefined) return choice.map((one) => `(${typeOf(one)})`).join(" | ");
  if (schema.allOf !== undefined) return schema.allOf.map((one) => `(${typeOf(one)})`).join(" & ");
  const { type } = schema;
  if (typeof type === "object") return type.map((one) => `(${typeOf({ ...schema, type: one })})`).join(" | ");
  switch (type) {
    case undefined:
      return "unknown";
    case "string":
    case "boolean":
    case "null":
      return type;
    case "number":
    case "integer":
      return "number";
    case "array":
      if (schema.prefixItems) return `[${schema.prefixItems.map(typeOf).join(", ")}]`;
      return `(${typeOf(schema.items ?? {})})[]`;
    case "object":
      return objectType(schema);
    default:
      throw new Error(`a schema of type ${type}: scripts/api-types.ts has to learn it`);
  }
}

function objectType({ properties, required = [], propertyNames, additionalProperties }: Schema): string {
  const others = typeof additionalProperties === "object" ? additionalProperties : null;
  const isOpen = others !== null || additionalProperties === true;
  const values = others === null ? "unknown" : typeOf(others);
  if (properties === undefined) {
    if (!isOpen) return "Record<string, never>";
    const named = propertyNames?.enum !== undefined || propertyNames?.anyOf !== undefined;
    return named
      ? `{ [name in ${typeOf(propertyNames ?? {})}]?: ${values} }`
      : `{ [name: string]: ${values} }`;
  }
  const fields = Object.entries(properties).map(([name, schema]) =>
    property(name, schema, required.includes(name)),
  );
  return `{\n${fields.join("\n")}\n}${isOpen ? ` & { [name: string]: ${values} }` : ""}`;
}
