import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { CONFIGURATION_PAGE, configurationPage } from "../../scripts/configuration.ts";
import {
  API_FILE,
  API_PAGE,
  apiDescription,
  apiPage,
  ERRORS_PAGE,
  errorsPage,
  LIFECYCLE_PAGE,
  lifecyclePage,
} from "../../scripts/docs.ts";

it("docs/errors.md is what `npm run docs` renders", () => {
  expect(readFileSync(ERRORS_PAGE, "utf8")).toBe(errorsPage());
});
it("docs/02-lifecycle.md shows the machine as it is", () => {
  const page = readFileSync(LIFECYCLE_PAGE, "utf8");
  expect(page).toBe(lifecyclePage(page));
});
it("docs/openapi.json is the API as it is", async () => {
  const description = await apiDescription();
  expect(readFileSync(API_FILE, "utf8")).toBe(description);
  const page = readFileSync(API_PAGE, "utf8");
  expect(page).toBe(apiPage(page, description));
});
it("docs/configuration.md is what the schemas say", () => {
  expect(readFileSync(CONFIGURATION_PAGE, "utf8")).toBe(configurationPage());
});
