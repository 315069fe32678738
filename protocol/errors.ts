import { FILE_ERRORS } from "./file-errors.ts";

/**
 * Every error that Cleave shows has a code from this table, and every code has a next step. The table is
 * rendered into `docs/errors.md` by `npm run docs` and a test fails when the two differ.
 */
export const ERRORS = {
  MESSAGE_MALFORMED: [
    "A message could not be decoded or does not fit its schema.",
    "Check that every process runs a compatible version; the message was ignored.",
  ],
  MESSAGE_OVERSIZED: [
    "A message is larger than its limit.",
    "Put large content into a blob; the message was ignored.",
  ],
  MESSAGE_VERSION_UNKNOWN: [
    "A message or event has a version that this process does not know.",
    "Upgrade this process, then restart it; until then it does not act on that migration.",
  ],
  REPORT_UNKNOWN_POD: [
    "A report came from a Pod that is not in the cluster.",
    "Add the Pod to `cluster.pods` of the coordinator's configuration, or stop the stray agent.",
  ],
  REPORT_STALE: [
    "A report is of an old incarnation, an old sequence or an old epoch.",
    "Nothing to do when it happens once; if it repeats, two agents run for one Pod: stop one.",
  ],
  PLAN_INVALID: [
    "The plan does not fit its schema.",
    "Correct the named field; `cleave plan --help` shows an example.",
  ],
  PLAN_ORGANIZATION_TWICE: [
    "An organization is assigned more than once.",
    "Keep one assignment per organization: an organization is never divided.",
  ],
  PLAN_UNKNOWN_POD: [
    "The plan names a Pod that is not in the cluster.",
    "Use a Pod that `cleave status` lists, or add it to the coordinator's configuration.",
  ],
  PLAN_UNKNOWN_ORGANIZATION: [
    "The plan names an organization that the source does not have.",
    "Correct the name; `cleave routes` shows where an organization lives.",
  ],
  PLAN_NOT_ON_SOURCE: [
    "An organization of the plan is not served by the plan's source Pod.",
    "Plan a migration from the Pod that serves it.",
  ],
  ORGANIZATION_CLAIMED: [
    "An organization is already part of a live migration.",
    "Wait for that migration to end, or abort it.",
  ],
  MIGRATION_UNKNOWN: ["There is no migration of that name.", "`cleave status` lists the migrations."],
  MIGRATION_EXISTS: ["A migration of that name exists with another plan.", "Choose another name."],
  POD_BUSY: ["A Pod already takes part in a live migration.", "Wait for that migration to end, or abort it."],
  COMMAND_NOT_POSSIBLE: [
    "The command is not possible in the migration's present state.",
    "`cleave status` says what the migration waits for and which commands are possible.",
  ],
  USAGE_INVALID: [
    "The command line is not understood.",
    "`cleave --help` lists the commands; `cleave COMMAND --help` shows one with its options and examples.",
  ],
  WAIT_ENDED: [
    "What was waited for will not happen: the migration went another way.",
    "`cleave status` says why and what is possible now; `cleave history` says how it came to that.",
  ],
  WAIT_TIMED_OUT: [
    "The state that was waited for was not reached in the given time. The migration goes on.",
    "`cleave status` says what it waits for; wait again with `cleave wait`.",
  ],
  HISTORY_INCOMPLETE: [
    "This coordinator no longer has the beginning of the log at hand.",
    "Start a coordinator without its checkpoint file: it reads the whole log. Then ask again.",
  ],
  DORMANT_DATA: [
    "What a removal would take: data of organizations that another Pod is authoritative for.",
    "Nothing to do. `cleave finalize` removes it when nobody needs the way back any more.",
  ],
  REMOVAL_WAITS: [
    "Removal pauses because a replica of this server is too far behind.",
    "Nothing to do: it goes on when the replica has caught up. If it does not, look at the named replica.",
  ],
  REMOVAL_NOT_ALLOWED: [
    "Dormant data may not be removed: an organization is authoritative here, still retained, or part of another migration.",
    "`cleave status` names the migration that holds it; removal goes on by itself when that one is over.",
  ],
  REMOVAL_REFERENCED: [
    "Rows that stay refer to rows that would be removed, or a repository that stays borrows objects from one that would.",
    "Look at what is named: delete or correct the reference where its organization is served (a borrowing repository: `git repack -a -d`, then remove its alternates), then finalize again.",
  ],
  REMOVAL_DISAGREES: [
    "The two ways to tell whose something is disagree about what was about to be removed, or something of it came back; it was left as it is.",
    "Correct the ownership rule that is named (`cleave analyze` explains those of tables); removal is tried again by itself.",
  ],
  ROLLBACK_TOO_LATE: [
    "The retention is over: what was left behind is being removed, or is gone.",
    "Move the organizations back instead: `cleave move`, with a plan from their present Pod.",
  ],
  REVERSE_REPLICATION_GONE: [
    "What the new Pod changes does not flow back, so a rollback would lose it.",
    "Finalize the migration, then move the organizations back; or, if the new Pod is lost for ever, see `cleave rollback --help` about accepting the loss.",
  ],
  REVERSE_REPLICATION_BEHIND: [
    "What was left behind is not level with what the new Pods have.",
    "Wait until it is (`cleave status` says how far), or finalize with --despite-reverse-replication: nothing of the new Pods is lost by that.",
  ],
  ABORT_AFTER_TRANSFER: [
    "Authority was already transferred, so the migration cannot be aborted.",
    "The way back from here is a rollback, which is itself a fenced transfer.",
  ],
  UNAUTHORIZED: ["The request carries no valid token.", "Set CLEAVE_TOKEN to the coordinator's token."],
  FORBIDDEN: [
    "The token's role does not allow this.",
    "Use a token with the role that the message names; `tokens` of the coordinator's configuration says who has which.",
  ],
  IDEMPOTENCY_KEY_REUSED: [
    "The same Idempotency-Key came with another request.",
    "Make a new key for each decision, and send one again only with the very same request.",
  ],
  NOT_FOUND: ["There is nothing at this address.", "Look at the API's description under /docs/json."],
  CONFIG_INVALID: [
    "The configuration file cannot be read or does not fit its schema.",
    "Correct the named field.",
  ],
  COORDINATOR_UNREACHABLE: [
    "The coordinator does not answer.",
    "Check that it runs and that CLEAVE_URL points to it; over TLS, that `--ca` or CLEAVE_CA names the file of who issued its certificate.",
  ],
  NATS_UNREACHABLE: [
    "NATS does not answer.",
    "Start nats-server or correct `nats.servers`; Cleave retries by itself and the source keeps serving.",
  ],
  LOG_CUT: [
    "The log ends before what this process has folded already: it is another log, or records were lost.",
    'Start nothing else; docs/17-runbooks.md, "The log is lost", says how to find out what was decided since.',
  ],
  LOG_APPEND_UNKNOWN: [
    "An append to the log got no answer, so it may or may not have happened.",
    "Nothing to do: Cleave reads the log before it decides again.",
  ],
  BLOB_CORRUPT: [
    "A blob's content does not match its digest, or it is missing.",
    "Restore the NATS object store, or create the plan again.",
  ],
  POSTGRES_UNREACHABLE: [
    "PostgreSQL does not answer.",
    "Start it or correct the agent's `postgres` settings; the migration waits.",
  ],
  POSTGRES_AUTHENTICATION: [
    "PostgreSQL refused the user or password.",
    "Correct the user, password and pg_hba.conf entry (one for the database, one for replication).",
  ],
  POSTGRES_ROLE: [
    "A role of PostgreSQL has more or less than Cleave's script gives it, or anybody is let in.",
    "Run deploy/postgres/roles.sql in the Pod's database and correct pg_hba.conf; nothing stops because of it.",
  ],
  POSTGRES_VERSION: [
    "The PostgreSQL version is not supported or differs between the Pods.",
    "Use the same major version, 15 to 18, on all Pods of a split.",
  ],
  POSTGRES_SETTING: [
    "A PostgreSQL setting does not allow replication, or would not fit a copy of the server.",
    "Change what the message names, and restart PostgreSQL where it needs that.",
  ],
  POSTGRES_WAITS: [
    "Cleave waits for a transaction or a lock of somebody else in PostgreSQL.",
    "Nothing to do when it ends soon; else end what the message names. Cleave goes on by itself.",
  ],
  POSTGRES_STATEMENT: [
    "PostgreSQL refused a statement of Cleave.",
    "The message is PostgreSQL's own: correct the setting, lock or object that it names; Cleave tries again by itself.",
  ],
  POSTGRES_IDENTITY: [
    "PostgreSQL's `cluster_name` is not the Pod's id.",
    "Set `cluster_name` to the Pod's id and restart PostgreSQL: it is the identity that no session can change.",
  ],
  POSTGRES_NOT_EMPTY: [
    "The target's data directory is not empty.",
    "A new Pod must be empty: remove what is there, or choose another directory.",
  ],
  POSTGRES_PROMOTED: [
    "The data directory that this agent would remove is of a server that was promoted, so it may be a Pod's only copy.",
    "The agent's state directory is older than its Pod: restore a newer one, or see the runbook of restored state. Nothing was removed.",
  ],
  POSTGRES_TABLESPACE: [
    "The source uses tablespaces outside its data directory.",
    "Move them into the data directory first.",
  ],
  POSTGRES_PREPARED_TRANSACTION: [
    "A prepared transaction is open.",
    "Commit it or roll it back; Cleave never decides that for you.",
  ],
  POSTGRES_UNFENCEABLE: [
    "The database has something that the write fence cannot cover.",
    "Follow the message: remove it, or exclude the table by rule.",
  ],
  POSTGRES_ACTS_TWICE: [
    "Something of the source acts by itself or is read from outside, and a split copies the server that it is in.",
    "Nothing stops because of it. The message says what Cleave does about it, and what is left to you.",
  ],
  POSTGRES_GUARD_MISSING: [
    "A write guard is missing or disabled on an owned table.",
    "Do not alter Cleave's triggers; the agent installs it again.",
  ],
  CHECKS_OUTDATED: [
    "What the checks before the fence had looked at was changed before the fence was up.",
    "Nothing was fenced, and the checks run again by themselves. If the cutover waits for an approval, approve it again; let deployments and jobs that change the schema end first.",
  ],
  POSTGRES_LINEAGE: [
    "The standby follows another history than the source's.",
    "Nothing was promoted; remove the target's data directory and let it be seeded again.",
  ],
  POSTGRES_TOOL_MISSING: [
    "A PostgreSQL program, or a library of an extension that the source uses, was not found.",
    "Install what the message names, or set `postgres.binDirectory`.",
  ],
  DISK_FULL: [
    "There is not enough disk space.",
    "Free space on the named file system; the migration waits and goes on by itself.",
  ],
  FILE_PERMISSION: [
    "A file or folder cannot be read or written.",
    "Give the agent's user access to the named path.",
  ],
  OWNERSHIP_RULE_MISSING: ["A table has no ownership rule.", "Add a rule for it to ownership.yaml."],
  OWNERSHIP_RULE_INVALID: [
    "An ownership rule does not fit the schema or the database.",
    "Correct the named rule in ownership.yaml.",
  ],
  SCHEMA_DIFFERS: [
    "Source and target do not have the same tables and columns.",
    "Bring both Pods to the same version of the schema; the message names every difference.",
  ],
  SCHEMA_CHANGED: [
    "The schema of the source or of the target was changed, and rows were not compared since.",
    "Wait: the tables concerned are compared again, and a fence can be raised after that. If it says that the schemas differ, run the same statements on the target.",
  ],
  REPLICA_IDENTITY_MISSING: [
    "A table's rows cannot be told apart in a change stream.",
    "Run the named ALTER TABLE, or add a primary key.",
  ],
  MEMBERSHIP_CHANGED: [
    "A row came into, or left, an organization that is being moved.",
    "Nothing was lost: the organization stays where it is. Move it again when such changes are over.",
  ],
  CHANGE_NOT_APPLICABLE: [
    "A change of the source cannot be applied to the target.",
    "The message names table and change; see whether something else writes these rows on the target.",
  ],
  TARGET_HOLDS_ORGANIZATION: [
    "The target of a move already has rows, repositories or objects of the organization.",
    "Dormant copies of an earlier migration have to be removed first; anything else must not be overwritten: look at what the message names.",
  ],
  TARGET_REFUSES_ROWS: [
    "The target would refuse rows of the organization, or change them on their way in.",
    "Correct on the target what the message names, or the rows on the source, and try again.",
  ],
  KEY_COLLISION: [
    "A row of the organization has a key that another row on the target has.",
    "Give the Pods disjoint ranges of keys, and renumber the rows that the message names on one of them.",
  ],
  SEQUENCES_OVERLAP: [
    "Both Pods give out keys of the same range, so that rows would collide sooner or later.",
    "Run the statements of the message, or your own that make the ranges disjoint.",
  ],
  SHARED_ROW_CONFLICT: [
    "A row that belongs to no organization alone is needed on the target, and is another one there.",
    "Make the rows that the message names the same on both Pods.",
  ],
  CROSS_ORGANIZATION_ROWS: [
    "Rows of the organization refer to rows of another one, or the other way round.",
    "Remove these references, or move the organizations together: cleave analyze counts them.",
  ],
  OWNER_UNKNOWN: [
    "A row, repository or object has no owner by the rules.",
    "Correct the data or the rules; unknown never counts as matching.",
  ],
  ...FILE_ERRORS,
  PEER_UNREACHABLE: [
    "Another Pod's agent does not answer.",
    "Check that it runs and that `peers` of this agent's configuration is right; the migration waits.",
  ],
  PEER_UNAUTHORIZED: ["Another Pod's agent refused the token.", "Use the same `peerToken` on all agents."],
  AGENT_SILENT: [
    "A Pod's agent does not report, or does not answer.",
    "Look at its machine: start it with `cleave agent --config FILE`, read its log, and run `cleave doctor --agent-config FILE` there.",
  ],
  AGENT_BEHIND: [
    "A store of the Pod has been told of a later phase of a migration, or of a later fence, than its agent knows of.",
    "The agent goes on by itself when it has read the log. If it does not, its state directory was restored: see the runbook of restored state. The store stays as it is.",
  ],
  SECRET_READABLE: [
    "A file with a password or a token can be read by others than its owner.",
    "Take the right away: `chmod 600 FILE`. If others could have read it, replace the secret.",
  ],
  CLOCK_SKEW: ["A Pod's clock differs too much from the coordinator's.", "Synchronise the clocks (NTP)."],
  WRITE_FENCED: [
    "The organization is read-only for a moment.",
    "Try again; the answer says after how many seconds.",
  ],
  WRONG_POD: ["Another Pod is authoritative for the organization.", "Use the Pod that the answer names."],
  POD_IDENTITY_UNKNOWN: [
    "This Pod's identity is not established, so it refuses all writes.",
    "Wait for the agent to finish its start; see its log.",
  ],
  DRAIN_INCOMPLETE: [
    "A writer of files has not ended, and the fence waits for it, at most until its deadline.",
    "The message names the writer; end it, then approve the cutover again. What the agent cannot see: WRITER_UNSEEN.",
  ],
  MISMATCH: [
    "Source and target differ.",
    "The evidence names what differs; the migration waits and compares again.",
  ],
  FENCE_DEADLINE: [
    "The fence reached its deadline before everything matched.",
    "The source serves again. See what it waited for, then approve again or abort.",
  ],
  REQUEST_INVALID: [
    "The request is not well-formed, or could be read in more than one way.",
    "Correct the request: the message says what is wrong with it.",
  ],
  POD_OPENING: [
    "This Pod takes the organization over and is not open yet.",
    "Try again; the answer says after how many seconds.",
  ],
  READ_UNCONFIRMED: [
    "The Pod cannot confirm that it may still serve reads of a fenced organization.",
    "Try again; if it lasts, check that the agent reaches NATS.",
  ],
  HOOK_PENDING: [
    "A hook is to be called right before the fence.",
    "Nothing: it is called when the cutover is approved, and the fence waits for it.",
  ],
  HOOK_FAILED: [
    "A hook before the transfer failed: its fence was not raised, or was lowered again.",
    "The message says what it answered. Put it right, then approve the cutover again.",
  ],
  HOOK_RETRIED: [
    "A hook after the transfer, or after an abort, fails.",
    "The message says what it answered. Put it right; it is called again by itself, and serving does not wait for it.",
  ],
  CHECK_FAILED: [
    "A check that this Pod's operators added did not pass.",
    "Look at the check that is named in the agent's `checks`; what it says is in the message.",
  ],
  WEBHOOK_FAILED: [
    "A webhook's receiver did not take a notification.",
    "See that it answers 2xx within its time limit; it is told again by itself, and nothing else waits for it.",
  ],
  INTERNAL: [
    "A broken invariant: a bug in Cleave.",
    "Report it with the bundle of logs; the process stopped rather than guess.",
  ],
} as const satisfies Record<string, readonly [summary: string, nextStep: string]>;

export type ErrorCode = keyof typeof ERRORS;

/** An error that a person may see: a documented code, what happened, and (from the table) what to do next. */
export class CleaveError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "CleaveError";
    this.code = code;
  }
  get nextStep(): string {
    return ERRORS[this.code][1];
  }
}

/** Wraps anything thrown into a CleaveError; `fallback` is the code for errors that carry none. */
export function toCleaveError(error: unknown, fallback: ErrorCode = "INTERNAL"): CleaveError {
  if (error instanceof CleaveError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new CleaveError(fallback, message, { cause: error });
}

/** Throws INTERNAL when a condition that must hold does not. Stays on in production. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new CleaveError("INTERNAL", message);
}
