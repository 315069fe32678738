/** Reports over core NATS: fire and forget, one subject for each Pod, so that an account may publish its own only. */
import { decodeReport, encodeReport } from "../codec.ts";
import { CleaveError, toCleaveError } from "../errors.ts";
import type { Report } from "../messages.ts";
import type { Bus } from "../ports/bus.ts";
import type { NatsLink } from "./nats-connection.ts";

export const REPORT_SUBJECT = "cleave.report";

export class NatsBus implements Bus {
  readonly #link: NatsLink;

  constructor(link: NatsLink) {
    this.#link = link;
  }

  /** While NATS is away the report is dropped: a newer one follows, and old ones sent later would only mislead. */
  publishReport(report: Report): void {
    const bytes = encodeReport(report);
    if (!this.#link.connected()) return;
    void this.#link
      .ready()
      .then((connection) => connection.publish(`${REPORT_SUBJECT}.${report.podId}`, bytes))
      // Closed meanwhile, or larger than this server takes: lost, as reports may be.
      .catch(() => undefined);
  }

  onReport(onReport: (report: Report) => void, onBad: (error: Error) => void): () => void {
    let unsubscribe: () => void = () => undefined;
    let wanted = true;
    void this.#link.ready().then(
      (connection) => {
        if (!wanted) return;
        const subscription = connection.subscribe(`${REPORT_SUBJECT}.*`, {
          callback: (error, message) => {
            if (!wanted) return;
            if (error) {
              onBad(error);
              return;
            }
            const report = read(message.data, message.subject, onBad);
            if (report) onReport(report);
          },
        });
        unsubscribe = () => {
          if (!subscription.isClosed()) subscription.unsubscribe();
        };
      },
      // The link was closed before it ever was up.
      () => undefined,
    );
    return () => {
      wanted = false;
      unsubscribe();
    };
  }

  connected(): boolean {
    return this.#link.connected();
  }
}

function read(bytes: Uint8Array, subject: string, onBad: (error: Error) => void): Report | null {
  try {
    const report = decodeReport(bytes);
    if (subject === `${REPORT_SUBJECT}.${report.podId}`) return report;
    throw new CleaveError("MESSAGE_MALFORMED", `a report of ${report.podId} came on subject ${subject}`);
  } catch (error) {
    onBad(toCleaveError(error, "MESSAGE_MALFORMED"));
    return null;
  }
}
