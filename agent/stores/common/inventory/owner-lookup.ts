/** Who owns a repository or an object, by the rules file; answered from the Pod's own database. Type only. */
import type { Epoch, MigrationId, OrganizationId } from "../../../../protocol/ids.ts";

/** An owner: an organization, or one of the classes that no organization owns alone. */
export type Owner =
  | { readonly kind: "organization"; readonly organizationId: OrganizationId }
  | { readonly kind: "shared" };

/** What a row names. */
export interface Named {
  /** A repository's path, or an object's key. */
  readonly name: string;
  /** As the database says; null of objects, whose keys say it. */
  readonly organization: string | null;
}

/** The row that the source wrote after the drain. */
export interface FenceMarker {
  readonly migrationId: MigrationId;
  readonly epoch: Epoch;
}

export interface OwnerLookup {
  /** Every repository that the rules know: relative path (with `.git`) → organization. */
  repositories(): Promise<ReadonlyMap<string, OrganizationId>>;
  /** Whether a rule says which objects rows name. */
  readonly namesObjects: boolean;
  /**
   * Visits, in pages, every repository or object that rows of this Pod's database name; none where no rule says it. With
   * a marker: as rows are once everything before it was applied here; false, with nothing visited, while it was not,
   * after a wait of at most a twentieth of a second.
   */
  named(
    store: "git" | "objects",
    marker: FenceMarker | null,
    visit: (page: readonly Named[]) => void,
  ): Promise<boolean>;
  /** One repository; null when no rule names it. */
  repository(path: string): Promise<OrganizationId | null>;
  /** From the key alone, no query; null when no rule matches. */
  object(key: string): Owner | null;
}
