/** What an operator may do, in words, and how carefully they are asked first. Pure. */
import type { MigrationStatus } from "../../../api/ports.ts";

type CommandName = MigrationStatus["possibleCommands"][number];

/** A button. One command may be two of them: finalizing, and looking at what that would remove. */
export interface Action {
  readonly name: string;
  readonly command: CommandName;
  /** Below the migration's address. */
  readonly path: string;
  readonly label: string;
  /** What happens then, and whether there is a way back. */
  readonly consequence: string;
  /** Asks to type the migration's id: it ends something, or cannot be taken back. */
  readonly dangerous: boolean;
  /** The field of the request that takes a reason; null: none is wanted. */
  readonly reasonAs: "reason" | "acceptLoss" | null;
  /** Which targets may be chosen; null: it is of none in particular. */
  readonly pods: "closed" | "opened" | null;
  /** Asks for organizations; none: all. */
  readonly organizations: boolean;
  /** A field of the request that may be ticked, and what that says. */
  readonly option: { readonly field: string; readonly label: string } | null;
  readonly body: Readonly<Record<string, unknown>>;
}

type Wording = Pick<Action, "label" | "consequence"> & Partial<Action>;

const WORDING: Record<CommandName, readonly Wording[]> = {
  check: [
    {
      label: "Check only",
      consequence: "Runs all checks on every Pod and changes nothing. The findings appear on this page.",
    },
  ],
  start: [
    {
      label: "Start",
      consequence:
        "Runs all checks and, if none fails, begins to copy. The source serves as before; you can abort at any time before the transfer.",
    },
  ],
  approve: [
    {
      label: "Approve the cutover",
      consequence:
        "Allows one attempt. As soon as all targets are level, the organizations become read-only for a moment and then belong to their new Pods. If the deadline passes first, the source serves them again.",
    },
  ],
  pause: [
    {
      label: "Pause",
      consequence:
        "Nothing is decided and nothing is removed until it is resumed. What follows goes on following.",
      reasonAs: "reason",
    },
  ],
  resume: [{ label: "Resume", consequence: "The migration goes on by itself where its plan says so." }],
  abort: [
    {
      label: "Abort",
      consequence:
        "Ends the migration. The source serves as before, and what was copied is removed: another attempt begins from nothing.",
      dangerous: true,
      reasonAs: "reason",
    },
  ],
  revoke: [
    {
      label: "Give a share back",
      consequence:
        "The organizations of a Pod that has not opened go back to the source, which serves them again. For this Pod the migration is over.",
      dangerous: true,
      reasonAs: "reason",
      pods: "closed",
    },
  ],
  rollback: [
    {
      label: "Roll back",
      consequence:
        "Organizations return to the source with everything that their new Pod changed since. It is a migration of its own, with checks, a short read-only window and evidence of its own; this page goes there.",
      dangerous: true,
      pods: "opened",
      organizations: true,
      option: { field: "approval", label: "Wait for my approval before the cutover" },
    },
    {
      name: "rollback-accept-loss",
      label: "Roll back from a lost Pod",
      consequence:
        "Only for a Pod that is lost for ever and switched off: the source takes over what has flowed back, without evidence. What had not is lost.",
      dangerous: true,
      reasonAs: "acceptLoss",
      pods: "opened",
      organizations: true,
    },
  ],
  giveUp: [
    {
      path: "give-up",
      label: "Give reverse replication up",
      consequence:
        "Nothing that this Pod changes flows back to the source any more, its disk keeps no WAL for it, and its organizations cannot be rolled back.",
      dangerous: true,
      reasonAs: "reason",
      pods: "opened",
    },
  ],
  finalize: [
    {
      name: "finalize-dry-run",
      label: "See what would be removed",
      consequence:
        "Checks what finalizing would remove and changes nothing. The findings appear on this page.",
      body: { dryRun: true },
    },
    {
      label: "Finalize",
      consequence:
        "Ends the retention. What is dormant is removed for good, and there is no way back to the source. All checks run first; one error, and the retention goes on.",
      dangerous: true,
      option: { field: "despiteReverseReplication", label: "Also where reverse replication is not level" },
      body: { dryRun: false },
    },
  ],
};

/** In the order in which an operator would think of them; the dangerous ones last. */
export function actionsOf(possible: readonly CommandName[]): Action[] {
  const actions = possible.flatMap((command) =>
    WORDING[command].map((wording) => ({
      name: command,
      command,
      path: command,
      dangerous: false,
      reasonAs: null,
      pods: null,
      organizations: false,
      option: null,
      body: {},
      ...wording,
    })),
  );
  return [...actions.filter((one) => !one.dangerous), ...actions.filter((one) => one.dangerous)];
}

/** What was filled into the form. */
export interface Filled {
  readonly reason: string;
  readonly podId: string;
  /** One a line. */
  readonly organizations: string;
  readonly ticked: boolean;
}

/** The body of the request; null: it has none. */
export function bodyOf(action: Action, filled: Filled): Record<string, unknown> | null {
  const organizations = filled.organizations.split("\n").map((line) => line.trim());
  const named = organizations.filter((id) => id !== "");
  const body = {
    ...action.body,
    ...(action.reasonAs === null ? {} : { [action.reasonAs]: filled.reason.trim() }),
    ...(action.pods === null ? {} : { pod: filled.podId }),
    ...(action.organizations && named.length > 0 ? { organizations: named } : {}),
    ...(action.option === null
      ? {}
      : { [action.option.field]: tickedAs(action.option.field, filled.ticked) }),
  };
  return Object.keys(body).length === 0 ? null : body;
}

function tickedAs(field: string, ticked: boolean): unknown {
  return field === "approval" ? (ticked ? "manual" : "auto") : ticked;
}
