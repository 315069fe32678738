/** Looks at NATS as `cleave doctor` does: reachable, JetStream, the log's stream, its copies, its clock. Changes nothing. */
import { type JetStreamManager, NatsError } from "nats";
import { CleaveError, type ErrorCode, toCleaveError } from "../errors.ts";
import type { Finding } from "../evidence.ts";
import { counted, formatAmount } from "../wording.ts";
import { silentLogger } from "./logger.ts";
import type { NatsConfig } from "./nats-config.ts";
import { NatsLink } from "./nats-connection.ts";
import { keepsEverything, LOG_STREAM } from "./nats-event-log.ts";
import { systemClock } from "./system-clock.ts";

const CONNECT_MS = 5_000;
const API_TIMEOUT_MS = 5_000;
/** As agents warn of each other's clocks. */
const SKEW_WARNING_MS = 1_000;

const finding = (severity: Finding["severity"], code: ErrorCode, message: string): Finding => ({
  store: null,
  severity,
  code,
  message: message.slice(0, 2_000),
});

/**
 * Uses a connection of its own and closes it.
 * @throws CleaveError NATS_UNREACHABLE when there is none within five seconds; whatever `use` throws.
 */
export async function withNats<T>(
  config: NatsConfig,
  use: (manager: JetStreamManager) => Promise<T>,
): Promise<T> {
  const link = new NatsLink({ ...config, name: "cleave-operator" }, systemClock, silentLogger);
  try {
    const late = new AbortController();
    const connection = await Promise.race([
      link.ready(),
      systemClock.sleep(CONNECT_MS, late.signal).then(
        () => null,
        () => null,
      ),
    ]);
    late.abort();
    if (connection === null)
      throw new CleaveError("NATS_UNREACHABLE", link.problem()?.message ?? "no connection in time");
    return await use(await connection.jetstreamManager({ checkAPI: false, timeout: API_TIMEOUT_MS }));
  } finally {
    await link.close();
  }
}

export async function checkNats(config: NatsConfig): Promise<Finding[]> {
  try {
    return await withNats(config, async (manager) => [
      finding(
        "info",
        "NATS_UNREACHABLE",
        `NATS answers; ${counted(config.servers.length, "server is", "servers are")} configured`,
      ),
      ...(await checkStream(manager, config)),
    ]);
  } catch (error) {
    const known = toCleaveError(error, "NATS_UNREACHABLE");
    return [finding("error", known.code, known.message)];
  }
}

async function checkStream(manager: JetStreamManager, config: NatsConfig): Promise<Finding[]> {
  const askedAt = systemClock.now();
  let info: Awaited<ReturnType<JetStreamManager["streams"]["info"]>>;
  try {
    info = await manager.streams.info(LOG_STREAM);
  } catch (error) {
    if (error instanceof NatsError && error.api_error?.code === 404)
      return [
        finding(
          "warning",
          "NATS_UNREACHABLE",
          `JetStream has no stream ${LOG_STREAM} yet: a coordinator makes it`,
        ),
      ];
    const why = (error as Error).message;
    return [
      finding("error", "NATS_UNREACHABLE", `JetStream does not answer (is it on, and allowed?): ${why}`),
    ];
  }
  const answeredAt = systemClock.now();
  const { state, cluster } = info;
  const findings = [
    finding(
      "info",
      "NATS_UNREACHABLE",
      `the log has ${state.messages} records, ${formatAmount(state.bytes, "bytes")}, ${counted(info.config.num_replicas, "copy", "copies")}`,
    ),
  ];
  if (!keepsEverything(info.config))
    findings.push(
      finding(
        "error",
        "CONFIG_INVALID",
        `the stream ${LOG_STREAM} may forget records, or has subjects that are not Cleave's`,
      ),
    );
  if (info.config.num_replicas < config.replicas)
    findings.push(
      finding(
        "warning",
        "CONFIG_INVALID",
        `the log has ${info.config.num_replicas} copies, the configuration wants ${config.replicas}: nats stream edit ${LOG_STREAM} --replicas ${config.replicas}`,
      ),
    );
  if (info.config.num_replicas === 1)
    findings.push(
      finding(
        "warning",
        "CONFIG_INVALID",
        "the log has one copy: a lost disk of that server is the end of it",
      ),
    );
  for (const { name, offline, current } of cluster?.replicas ?? [])
    if (offline || !current)
      findings.push(
        finding(
          "error",
          "NATS_UNREACHABLE",
          `the copy of the log on ${name} is ${offline ? "offline" : "behind"}`,
        ),
      );
  // Servers say their time since 2.10.
  const { ts } = info as { ts?: string };
  const skewMs = ts === undefined ? null : Math.abs(Date.parse(ts) - (askedAt + answeredAt) / 2);
  if (skewMs !== null && skewMs > SKEW_WARNING_MS)
    findings.push(
      finding(
        "warning",
        "CLOCK_SKEW",
        `this machine's clock and that of NATS differ by ${Math.round(skewMs)} ms`,
      ),
    );
  return findings;
}
