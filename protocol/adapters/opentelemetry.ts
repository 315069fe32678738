/** The OpenTelemetry SDK, loaded only where the standard variables name an endpoint. */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Tracer } from "@opentelemetry/api";
import type { Logger } from "../ports/logger.ts";
import { ChosenIds } from "../telemetry/tracing.ts";

export interface TracingSdk {
  readonly tracer: Tracer;
  readonly ids: ChosenIds;
  /** Sends what is left, and waits for it for a moment only. */
  stop(): Promise<void>;
}

const FLUSH_MS = 2_000;

export function tracingIsConfigured(environment: NodeJS.ProcessEnv): boolean {
  if (environment["OTEL_SDK_DISABLED"] === "true" || environment["OTEL_TRACES_EXPORTER"] === "none")
    return false;
  const { OTEL_EXPORTER_OTLP_ENDPOINT: all, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: traces } = environment;
  return (all ?? "") !== "" || (traces ?? "") !== "";
}

/**
 * Null where nothing is configured. Otherwise everything else is as the variables say: OTEL_SERVICE_NAME (by default
 * `serviceName`), OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_…
 */
export async function startTracingSdk(
  serviceName: string,
  instance: string,
  logger: Logger,
): Promise<TracingSdk | null> {
  if (!tracingIsConfigured(process.env)) return null;
  const [{ DiagLogLevel, diag }, sdk, { OTLPTraceExporter }, resources] = await Promise.all([
    import("@opentelemetry/api"),
    import("@opentelemetry/sdk-trace-base"),
    import("@opentelemetry/exporter-trace-otlp-http"),
    import("@opentelemetry/resources"),
  ]);
  const say = (message: string) => logger.warn({}, `traces: ${message}`);
  const quiet = () => undefined;
  diag.setLogger(
    { error: say, warn: say, info: quiet, debug: quiet, verbose: quiet },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const ids = new ChosenIds((bytes) => randomBytes(bytes).toString("hex"));
  const named = resources.resourceFromAttributes({
    "service.name": serviceName,
    "service.instance.id": instance,
  });
  const told = resources.detectResources({ detectors: [resources.envDetector] });
  const provider = new sdk.BasicTracerProvider({
    resource: resources.defaultResource().merge(named).merge(told),
    idGenerator: ids,
    spanProcessors: [new sdk.BatchSpanProcessor(new OTLPTraceExporter())],
  });
  return {
    tracer: provider.getTracer("cleave"),
    ids,
    stop: async () => {
      const abandoned = new AbortController();
      const flushed = provider.shutdown().catch((error: unknown) => say(String(error)));
      await Promise.race([
        flushed,
        delay(FLUSH_MS, undefined, { signal: abandoned.signal }).catch(() => undefined),
      ]);
      abandoned.abort();
    },
  };
}
