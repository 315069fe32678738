/** The `webhooks` part of a coordinator's configuration: who is told of what happens, and how they know who tells them. */
import { z } from "zod";
import { EVENT_SCHEMAS, type EventType } from "../../protocol/events.ts";

export const WebhookConfig = z
  .strictObject({
    /** Names it in metrics, log lines and in the file that says what it was told of. */
    name: z.string().regex(/^[a-z0-9-]{1,40}$/, "a name is 1 to 40 lower-case letters, digits and dashes"),
    url: z.url({ protocol: /^https?$/ }),
    /** A file that holds the secret for `Cleave-Signature`; its last line break is dropped. */
    secretFile: z.string().min(1).optional(),
    /** The types of events to tell of; without it, all that concern a migration. */
    events: z
      .array(z.enum(Object.keys(EVENT_SCHEMAS) as [EventType, ...EventType[]]))
      .min(1)
      .optional(),
    /** How long the receiver may take to answer. */
    timeoutMs: z.number().int().min(100).max(60_000).default(5_000),
  })
  .meta({ description: "A receiver of notifications" });

/** As it is used: the secret read. */
export type Webhook = Omit<z.infer<typeof WebhookConfig>, "secretFile"> & { readonly secret: string | null };
