/** What tokens allow. */

/** Each may what the one before it may. */
export const ROLES = ["viewer", "operator", "admin"] as const;
export type Role = (typeof ROLES)[number];

export interface AccessToken {
  /** Who has it, for the log; null: the one token of a coordinator where nobody has a name. */
  readonly name: string | null;
  readonly role: Role;
  readonly token: string;
}
