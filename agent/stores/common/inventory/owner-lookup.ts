/** Who owns a repository or an object, by the rules file; answered from the Pod's own database. Type only. */
import type { OrganizationId } from "../../../../protocol/ids.ts";

/** An owner: an organization, or one of the classes that no organization owns alone. */
export type Owner =
  | { readonly kind: "organization"; readonly organizationId: OrganizationId }
  | { readonly kind: "shared" };

export interface OwnerLookup {
  /** Every repository that the rules know: relative path (with `.git`) → organization. */
  repositories(): Promise<ReadonlyMap<string, OrganizationId>>;
  /** One repository; null when no rule names it. */
  repository(path: string): Promise<OrganizationId | null>;
  /** From the key alone, no query; null when no rule matches. */
  object(key: string): Owner | null;
}
