/** Operators' log lines are not part of what is simulated. */
import type { Logger } from "../../protocol/ports/logger.ts";

const nothing = () => undefined;
export const silentLogger: Logger = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  child: () => silentLogger,
};
