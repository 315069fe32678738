import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/support/no-regexp-in-expected-object.ts"],
    // Real servers start in most files: two cores carry two of them at once, and no more.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
    // A flaky test is a bug: it is never run twice to make it pass.
    retry: 0,
  },
});
