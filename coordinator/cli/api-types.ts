/** The API as its clients see it. Generated from docs/openapi.json by `npm run docs`; not to be edited. */

export interface components {
schemas: {
Problem: {
/** urn:cleave:error:CODE */
type: string;
/** What the code means */
title: string;
status: number;
code: "MESSAGE_MALFORMED" | "MESSAGE_OVERSIZED" | "MESSAGE_VERSION_UNKNOWN" | "REPORT_UNKNOWN_POD" | "REPORT_STALE" | "PLAN_INVALID" | "PLAN_ORGANIZATION_TWICE" | "PLAN_UNKNOWN_POD" | "PLAN_UNKNOWN_ORGANIZATION" | "PLAN_NOT_ON_SOURCE" | "ORGANIZATION_CLAIMED" | "MIGRATION_UNKNOWN" | "MIGRATION_EXISTS" | "POD_BUSY" | "COMMAND_NOT_POSSIBLE" | "USAGE_INVALID" | "WAIT_ENDED" | "WAIT_TIMED_OUT" | "HISTORY_INCOMPLETE" | "DORMANT_DATA" | "REMOVAL_WAITS" | "REMOVAL_NOT_ALLOWED" | "REMOVAL_REFERENCED" | "REMOVAL_DISAGREES" | "ROLLBACK_TOO_LATE" | "REVERSE_REPLICATION_GONE" | "REVERSE_REPLICATION_BEHIND" | "ABORT_AFTER_TRANSFER" | "UNAUTHORIZED" | "FORBIDDEN" | "IDEMPOTENCY_KEY_REUSED" | "NOT_FOUND" | "CONFIG_INVALID" | "COORDINATOR_UNREACHABLE" | "NATS_UNREACHABLE" | "LOG_CUT" | "LOG_APPEND_UNKNOWN" | "BLOB_CORRUPT" | "POSTGRES_UNREACHABLE" | "POSTGRES_AUTHENTICATION" | "POSTGRES_ROLE" | "POSTGRES_VERSION" | "POSTGRES_SETTING" | "POSTGRES_WAITS" | "POSTGRES_STATEMENT" | "POSTGRES_IDENTITY" | "POSTGRES_NOT_EMPTY" | "POSTGRES_PROMOTED" | "POSTGRES_TABLESPACE" | "POSTGRES_PREPARED_TRANSACTION" | "POSTGRES_UNFENCEABLE" | "POSTGRES_ACTS_TWICE" | "POSTGRES_GUARD_MISSING" | "CHECKS_OUTDATED" | "POSTGRES_LINEAGE" | "POSTGRES_TOOL_MISSING" | "DISK_FULL" | "FILE_PERMISSION" | "OWNERSHIP_RULE_MISSING" | "OWNERSHIP_RULE_INVALID" | "SCHEMA_DIFFERS" | "SCHEMA_CHANGED" | "REPLICA_IDENTITY_MISSING" | "MEMBERSHIP_CHANGED" | "CHANGE_NOT_APPLICABLE" | "TARGET_HOLDS_ORGANIZATION" | "TARGET_REFUSES_ROWS" | "KEY_COLLISION" | "SEQUENCES_OVERLAP" | "SHARED_ROW_CONFLICT" | "CROSS_ORGANIZATION_ROWS" | "OWNER_UNKNOWN" | "REPOSITORY_UNREADABLE" | "REPOSITORY_NOT_CARRIED" | "LEFT_BEHIND" | "REPOSITORY_HOOK_DISABLED" | "REPOSITORY_LOCKED" | "GIT_NOT_EMPTY" | "OBJECTS_NOT_EMPTY" | "OBJECT_UNREADABLE" | "OBJECT_KEY_INVALID" | "WRITER_UNSEEN" | "WRITERS_ELSEWHERE" | "WRITE_REVOKED" | "DISK_FAILED" | "ROOT_CHANGED" | "ROOT_UNREADABLE" | "ROOT_FORGOTTEN" | "ROOT_LOSSES" | "REPOSITORY_MISSING" | "OBJECT_MISSING" | "PEER_UNREACHABLE" | "PEER_UNAUTHORIZED" | "AGENT_SILENT" | "AGENT_BEHIND" | "SECRET_READABLE" | "CLOCK_SKEW" | "WRITE_FENCED" | "WRONG_POD" | "POD_IDENTITY_UNKNOWN" | "DRAIN_INCOMPLETE" | "MISMATCH" | "FENCE_DEADLINE" | "REQUEST_INVALID" | "POD_OPENING" | "READ_UNCONFIRMED" | "HOOK_PENDING" | "HOOK_FAILED" | "HOOK_RETRIED" | "CHECK_FAILED" | "WEBHOOK_FAILED" | "INTERNAL";
/** What happened this time */
detail: string;
nextStep: string;
};
Lifecycle: "planned" | "preflight" | "refused" | "seeding" | "following" | "ready" | "fencing" | "matching" | "transferring" | "activating" | "retaining" | "cleaning" | "completed" | "aborted";
Finding: {
store: ("postgres" | "git" | "objects") | (null);
severity: "error" | "warning" | "info";
code: string;
message: string;
};
Evidence: {
epoch: number;
digest: string;
details: { [name: string]: (string) | (number) | (boolean) };
};
StoreView: {
reached: boolean;
progress: ({
done: number;
total: number;
unit: string;
}) | (null);
lag: ({
amount: (number) | (null);
unit: "bytes" | "repositories" | "objects";
}) | (null);
verified: boolean;
scrub?: {
items: number;
unread: number;
passes: number;
passAgeMs: (number) | (null);
damaged: number;
last: (string) | (null);
};
problems: ({
code: string;
message: string;
})[];
stragglers: (string)[];
reverseReplication?: { [name: string]: {
lag: {
amount: (number) | (null);
unit: "bytes" | "repositories" | "objects";
};
verified: boolean;
problem: ({
code: string;
message: string;
}) | (null);
scrub?: {
items: number;
unread: number;
passes: number;
passAgeMs: (number) | (null);
damaged: number;
last: (string) | (null);
};
} };
/** What it is doing; `reached` says whether that is done, or is being kept up */
state: "preparing" | "serving" | "read-only" | "dormant" | "copying" | "following" | "proving equal" | "promoting" | "removing" | "cleaning up";
/** Equal to the source at the newest fence; null: nothing to compare, or this is the source */
matched: (boolean) | (null);
evidence: (components["schemas"]["Evidence"]) | (null);
};
PodStatus: {
podId: string;
role: "source" | "target";
/** Of a target; null on the source */
share: ("closed" | "opened" | "revoked") | (null);
/** Null: nothing was reported of this store */
stores: { [name in "postgres" | "git" | "objects"]?: (components["schemas"]["StoreView"]) | (null) };
};
ReverseReplication: {
podId: string;
/** Why nothing flows back any more; null while it does */
givenUp: (string) | (null);
stores: { [name in "postgres" | "git" | "objects"]?: {
lag: {
amount: (number) | (null);
unit: "bytes" | "repositories" | "objects";
};
verified: boolean;
problem: ({
code: string;
message: string;
}) | (null);
scrub?: {
items: number;
unread: number;
passes: number;
passAgeMs: (number) | (null);
damaged: number;
last: (string) | (null);
};
} };
};
MigrationStatus: {
migrationId: string;
kind: "split" | "move" | "rollback";
/** Of a rollback: what is rolled back */
of: (string) | (null);
lifecycle: components["schemas"]["Lifecycle"];
sourcePodId: string;
organizations: number;
/** Sentences; none: it waits for nothing */
waitingFor: (string)[];
findings: (components["schemas"]["Finding"])[];
/** Fences that were raised */
attempts: number;
approvedBy: (string) | (null);
/** While the organizations are read-only */
fence: ({
epoch: number;
raisedAt: number;
/** Of a record of the log */
raisedSequence: number;
deadlineAt: number;
}) | (null);
transfer: ({
epoch: number;
routeVersion: number;
at: number;
/** Of a record of the log */
sequence: number;
/** Without evidence, because the source is lost for ever */
forced: boolean;
}) | (null);
/** Of the last lowering of a fence, revocation or abort */
reason: (string) | (null);
/** What the source's disk keeps for the slowest target, and what it may */
wal: ({
keptBytes: number;
budgetBytes: (number) | (null);
}) | (null);
/** How long the present step still takes; null: it waits for a person, or takes a moment */
estimate: ({
/** Null: there is no basis for one */
leftMs: (number) | (null);
/** What it was computed from, or why it could not be */
basis: string;
}) | (null);
paused: ({
at: number;
by: string;
reason: string;
}) | (null);
/** Of each target that keeps reverse replication, or kept one */
reverseReplication: (components["schemas"]["ReverseReplication"])[];
removalCheck: ({
/** Of a record of the log */
sequence: number;
end: boolean;
despiteReverseReplication: boolean;
by: string;
open: boolean;
}) | (null);
pods: (components["schemas"]["PodStatus"])[];
/** What is possible now */
possibleCommands: ("check" | "start" | "approve" | "abort" | "revoke" | "pause" | "resume" | "giveUp" | "finalize" | "rollback")[];
};
ClusterStatus: {
at: number;
/** NATS answers this coordinator */
connected: boolean;
/** Of a record of the log */
sequence: number;
pods: ({
podId: string;
/** Null: this coordinator has heard nothing of it */
lastReportAgeMs: (number) | (null);
/** Grows with every start of the agent */
incarnation: (number) | (null);
/** The agent's version */
software: (string) | (null);
/** What is wrong with the Pod itself, whether it takes part in anything or not */
problems: ({
code: string;
message: string;
})[];
})[];
migrations: (components["schemas"]["MigrationStatus"])[];
};
MigrationSummary: {
migrationId: string;
kind: "split" | "move" | "rollback";
/** Of a rollback: what is rolled back */
of: (string) | (null);
lifecycle: components["schemas"]["Lifecycle"];
sourcePodId: string;
organizations: number;
/** Sentences; none: it waits for nothing */
waitingFor: (string)[];
paused: ({
at: number;
by: string;
reason: string;
}) | (null);
/** What is possible now */
possibleCommands: ("check" | "start" | "approve" | "abort" | "revoke" | "pause" | "resume" | "giveUp" | "finalize" | "rollback")[];
targetPodIds: (string)[];
plannedAt: number;
plannedBy: string;
};
MigrationPage: {
migrations: (components["schemas"]["MigrationSummary"])[];
/** `after` of the next page; null: this is the last */
next: (string) | (null);
};
Pod: {
podId: string;
/** Null: this coordinator has heard nothing of it */
lastReportAgeMs: (number) | (null);
/** Grows with every start of the agent */
incarnation: (number) | (null);
/** The agent's version */
software: (string) | (null);
/** What is wrong with the Pod itself, whether it takes part in anything or not */
problems: ({
code: string;
message: string;
})[];
/** Serves every organization that no migration has moved */
isDefault: boolean;
/** That the agent reported of; none while it takes part in nothing */
stores: ("postgres" | "git" | "objects")[];
/** In which it takes, or took, part */
migrations: ({
migrationId: string;
lifecycle: components["schemas"]["Lifecycle"];
role: "source" | "target";
/** Of a target; null on the source */
share: ("closed" | "opened" | "revoked") | (null);
})[];
};
Pods: {
at: number;
pods: (components["schemas"]["Pod"])[];
};
PodDetails: {
podId: string;
/** Null: this coordinator has heard nothing of it */
lastReportAgeMs: (number) | (null);
/** Grows with every start of the agent */
incarnation: (number) | (null);
/** The agent's version */
software: (string) | (null);
/** What is wrong with the Pod itself, whether it takes part in anything or not */
problems: ({
code: string;
message: string;
})[];
/** Serves every organization that no migration has moved */
isDefault: boolean;
/** That the agent reported of; none while it takes part in nothing */
stores: ("postgres" | "git" | "objects")[];
migrations: ({
migrationId: string;
lifecycle: components["schemas"]["Lifecycle"];
role: "source" | "target";
/** Of a target; null on the source */
share: ("closed" | "opened" | "revoked") | (null);
/** Null: nothing was reported of this store */
stores: { [name in "postgres" | "git" | "objects"]?: (components["schemas"]["StoreView"]) | (null) };
})[];
};
MigrationEvidence: {
migrationId: string;
/** Of the newest fence; null before the first */
epoch: (number) | (null);
/** What the transfer rests on, from the log: by Pod and store. Null before the exact consensus */
consensus: ({ [name: string]: { [name in "postgres" | "git" | "objects"]?: {
epoch: number;
digest: string;
details: { [name: string]: (string) | (number) | (boolean) };
} } }) | (null);
/** What the Pods say now */
reported: ({
podId: string;
role: "source" | "target";
stores: { [name in "postgres" | "git" | "objects"]?: {
evidence: (components["schemas"]["Evidence"]) | (null);
matched: (boolean) | (null);
} };
})[];
};
HistoryEntry: {
/** Of a record of the log */
sequence: number;
at: number;
by: string;
type: string;
/** What was decided, in a sentence */
what: string;
why: (string)[];
from: (components["schemas"]["Lifecycle"]) | (null);
to: (components["schemas"]["Lifecycle"]) | (null);
findings: (components["schemas"]["Finding"])[];
evidence: ({ [name: string]: { [name in "postgres" | "git" | "objects"]?: {
epoch: number;
digest: string;
details: { [name: string]: (string) | (number) | (boolean) };
} } }) | (null);
};
History: {
migrationId: string;
entries: (components["schemas"]["HistoryEntry"])[];
};
MigratedOrganization: {
organizationId: string;
/** Where the plan assigns it */
podId: string;
/** How every Pod enforces the share of this target */
phase: "source" | "fenced" | "transferred" | "opened";
/** The Pod that is authoritative for it now */
servedBy: string;
routeVersion: number;
};
OrganizationPage: {
migrationId: string;
organizations: (components["schemas"]["MigratedOrganization"])[];
/** Of the migration */
total: number;
/** That begin with `search` */
found: number;
/** `after` of the next page; null: this is the last */
next: (string) | (null);
};
Route: {
organizationId: string;
podId: string;
version: number;
};
RoutePage: {
defaultPodId: (string) | (null);
routes: (components["schemas"]["Route"])[];
/** `after` of the next page; null: this is the last */
next: (string) | (null);
};
ClusterEvent: ({
type: "ClusterConfigured";
v: 1;
pods: (string)[];
defaultPodId: string;
stores: ("postgres" | "git" | "objects")[];
}) | ({
type: "MigrationPlanned";
v: 2 | 3;
migrationId: string;
kind: "split";
sourcePodId: string;
targetPodIds: (string)[];
assignments: {
digest: string;
organizations: number;
};
settings: {
lagBounds: {
postgresBytes: number;
gitRepositories: number;
objects: number;
};
settlingMs: number;
cutover: {
approval: "manual" | "auto";
deadlineMs: number;
drainGraceMs: number;
attempts: number;
openWithinMs: number;
readLeaseMs: number;
};
walBudget: {
bytes: (number) | (null);
exceeded: "abort" | "warn";
};
numbering: "apart" | "shared";
acceptedDatabases?: (string)[];
retention: {
forMs: (number) | (null);
reverseReplication: "replicated" | "none";
};
rateLimits: {
baseBackupBytesPerSecond: (number) | (null);
objectBytesPerSecond: (number) | (null);
gitConcurrency: number;
objectConcurrency: number;
};
};
}) | ({
type: "MovePlanned";
v: 2;
migrationId: string;
sourcePodId: string;
targetPodId: string;
assignments: {
digest: string;
organizations: number;
};
settings: {
lagBounds: {
postgresBytes: number;
gitRepositories: number;
objects: number;
};
settlingMs: number;
cutover: {
approval: "manual" | "auto";
deadlineMs: number;
drainGraceMs: number;
attempts: number;
openWithinMs: number;
readLeaseMs: number;
};
walBudget: {
bytes: (number) | (null);
exceeded: "abort" | "warn";
};
numbering: "apart" | "shared";
acceptedDatabases?: (string)[];
retention: {
forMs: (number) | (null);
reverseReplication: "replicated" | "none";
};
rateLimits: {
baseBackupBytesPerSecond: (number) | (null);
objectBytesPerSecond: (number) | (null);
gitConcurrency: number;
objectConcurrency: number;
};
};
}) | ({
type: "RollbackPlanned";
v: 2;
migrationId: string;
of: string;
sourcePodId: string;
targetPodId: string;
assignments: {
digest: string;
organizations: number;
};
settings: {
lagBounds: {
postgresBytes: number;
gitRepositories: number;
objects: number;
};
settlingMs: number;
cutover: {
approval: "manual" | "auto";
deadlineMs: number;
drainGraceMs: number;
attempts: number;
openWithinMs: number;
readLeaseMs: number;
};
walBudget: {
bytes: (number) | (null);
exceeded: "abort" | "warn";
};
numbering: "apart" | "shared";
acceptedDatabases?: (string)[];
retention: {
forMs: (number) | (null);
reverseReplication: "replicated" | "none";
};
rateLimits: {
baseBackupBytesPerSecond: (number) | (null);
objectBytesPerSecond: (number) | (null);
gitConcurrency: number;
objectConcurrency: number;
};
};
}) | ({
type: "PreflightStarted";
v: 1;
migrationId: string;
start: boolean;
}) | ({
type: "PreflightPassed";
v: 1;
migrationId: string;
findings: ({
store: ("postgres" | "git" | "objects") | (null);
severity: "error" | "warning" | "info";
code: string;
message: string;
})[];
}) | ({
type: "PreflightRefused";
v: 1;
migrationId: string;
findings: ({
store: ("postgres" | "git" | "objects") | (null);
severity: "error" | "warning" | "info";
code: string;
message: string;
})[];
}) | ({
type: "SeedingCompleted";
v: 1;
migrationId: string;
}) | ({
type: "ReplicasCaughtUp";
v: 1;
migrationId: string;
}) | ({
type: "ReplicasFellBehind";
v: 1;
migrationId: string;
reasons: (string)[];
}) | ({
type: "CutoverApproved";
v: 1;
migrationId: string;
}) | ({
type: "FenceRaised";
v: 1;
migrationId: string;
epoch: number;
deadlineAt: number;
}) | ({
type: "SourceDrained";
v: 1;
migrationId: string;
epoch: number;
}) | ({
type: "ConsensusReached";
v: 1;
migrationId: string;
epoch: number;
evidence: { [name: string]: { [name in "postgres" | "git" | "objects"]?: {
epoch: number;
digest: string;
details: { [name: string]: (string) | (number) | (boolean) };
} } };
}) | ({
type: "AuthorityTransferred";
v: 1;
migrationId: string;
epoch: number;
routeVersion: number;
}) | ({
type: "TransferForced";
v: 1;
migrationId: string;
epoch: number;
routeVersion: number;
reason: string;
}) | ({
type: "FenceLowered";
v: 1;
migrationId: string;
epoch: number;
reason: string;
}) | ({
type: "Opened";
v: 1;
migrationId: string;
epoch: number;
podId: string;
}) | ({
type: "TransferRevoked";
v: 1;
migrationId: string;
podId: string;
routeVersion: number;
reason: string;
}) | ({
type: "MigrationAborted";
v: 1;
migrationId: string;
reason: string;
}) | ({
type: "MigrationPaused";
v: 1;
migrationId: string;
reason: string;
}) | ({
type: "MigrationResumed";
v: 1;
migrationId: string;
}) | ({
type: "ReverseReplicationGivenUp";
v: 1;
migrationId: string;
podId: string;
reason: string;
}) | ({
type: "RemovalCheckStarted";
v: 2;
migrationId: string;
end: boolean;
despiteReverseReplication?: boolean;
}) | ({
type: "RemovalChecked";
v: 1;
migrationId: string;
findings: ({
store: ("postgres" | "git" | "objects") | (null);
severity: "error" | "warning" | "info";
code: string;
message: string;
})[];
}) | ({
type: "RetentionEnded";
v: 1;
migrationId: string;
findings: ({
store: ("postgres" | "git" | "objects") | (null);
severity: "error" | "warning" | "info";
code: string;
message: string;
})[];
}) | ({
type: "FilesRemoved";
v: 1;
migrationId: string;
}) | ({
type: "RowsRemoved";
v: 1;
migrationId: string;
}) | ({
type: "Unknown";
event: {
type: string;
v: number;
migrationId?: string;
} & { [name: string]: unknown };
});
LogRecord: {
/** Of a record of the log */
sequence: number;
at: number;
by: string;
events: (components["schemas"]["ClusterEvent"])[];
};
RecordPage: {
records: (components["schemas"]["LogRecord"])[];
/** false: the coordinator began with a checkpoint and no longer has all records after `after` */
complete: boolean;
};
Accepted: {
migrationId: string;
/** When it was decided */
lifecycle: components["schemas"]["Lifecycle"];
};
};
}

export interface paths {
"/health": {
/** The process runs; what it waits for */
get: {
parameters: {

};
responses: {
200: { content: { "application/json": {
ok: true;
/** The log is read, and the coordinator decides */
ready: boolean;
/** NATS answers */
connected: boolean;
/** Why it is not ready or not connected */
problem: ({
code: string;
message: string;
nextStep: string;
}) | (null);
}; } };
};
};
};
"/ready": {
/** Whether requests are answered here now */
get: {
parameters: {

};
responses: {
200: { content: { "application/json": {
ready: boolean;
}; } };
503: { content: { "application/json": {
ready: boolean;
}; } };
};
};
};
"/metrics": {
/** Metrics in Prometheus' text format */
get: {
parameters: {

};
responses: {
200: { content: {  } };
};
};
};
"/v1/migrations/{id}/check": {
/** Run all checks (a dry run); the findings are in the migration's status */
post: {
parameters: {
header?: {
"idempotency-key"?: string;
};
path: {
id: string;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/start": {
/** Run all checks and, if none fails, begin seeding */
post: {
parameters: {
header?: {
"idempotency-key"?: string;
};
path: {
id: string;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/approve": {
/** Approve one attempt of the cutover */
post: {
parameters: {
header?: {
"idempotency-key"?: string;
};
path: {
id: string;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/resume": {
/** Go on with a migration that was paused */
post: {
parameters: {
header?: {
"idempotency-key"?: string;
};
path: {
id: string;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/abort": {
/** Abort before the transfer; the source serves as before */
post: {
parameters: {
header?: {
"idempotency-key"?: string;
};
path: {
id: string;
};
};
requestBody: { content: { "application/json": {
/** Goes into the log */
reason: string;
}; } };
responses: {
200: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/pause": {
/** Decide and remove nothing until it is resumed; what follows goes on following */
post: {
parameters: {
header?: {
"idempotency-key"?: string;
};
path: {
id: string;
};
};
requestBody: { content: { "application/json": {
/** Goes into the log */
reason: string;
}; } };
responses: {
200: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/finalize": {
/** End the retention: there is no way back from here, and what is dormant is removed */
post: {
parameters: {
header?: {
"idempotency-key"?: string;
};
path: {
id: string;
};
};
requestBody: { content: { "application/json": {
/** Only find out what would be removed */
dryRun?: boolean;
/** Also where what was left behind is not level with what the new Pods have */
despiteReverseReplication?: boolean;
}; } };
responses: {
200: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/revoke": {
/** Give the share of a target that has not opened back to the source */
post: {
parameters: {
header?: {
"idempotency-key"?: string;
};
path: {
id: string;
};
};
requestBody: { content: { "application/json": {
/** Goes into the log */
reason: string;
pod: string;
}; } };
responses: {
200: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/rollback": {
/** Bring organizations back to the source, with everything that the new Pod changed since */
post: {
parameters: {
header?: {
"idempotency-key"?: string;
};
path: {
id: string;
};
};
requestBody: { content: { "application/json": {
/** Null: all that the Pod took over and still has */
organizations?: ((string)[]) | (null);
/** Whose organizations go back; null: the Pod that has them, where it is one */
pod?: (string) | (null);
/** Of the rollback; null: <id>-back-1, -2, … */
name?: (string) | (null);
/** `manual`: an operator approves the cutover once everything is level */
approval?: "auto" | "manual";
/** The Pod is lost for ever and will not serve again: take over without evidence, for this reason */
acceptLoss?: (string) | (null);
}; } };
responses: {
200: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/give-up": {
/** Give reverse replication from a Pod up: nothing flows back, and its disk keeps no WAL for it */
post: {
parameters: {
header?: {
"idempotency-key"?: string;
};
path: {
id: string;
};
};
requestBody: { content: { "application/json": {
pod: string;
/** Goes into the log */
reason: string;
}; } };
responses: {
200: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/status": {
/** All migrations and Pods, and what they wait for */
get: {
parameters: {

};
responses: {
200: { content: { "application/json": components["schemas"]["ClusterStatus"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/status/stream": {
/** Server-sent events: the status, whenever it changes, at most every 100 ms */
get: {
parameters: {

};
responses: {
200: { content: { "text/event-stream": string; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations": {
/** Migrations, the newest first */
get: {
parameters: {
query?: {
live?: string;
after?: string;
limit?: number;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["MigrationPage"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}": {
/** One migration */
get: {
parameters: {
path: {
id: string;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["MigrationStatus"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/evidence": {
/** What the transfer rests on, and what the Pods say now */
get: {
parameters: {
path: {
id: string;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["MigrationEvidence"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/history": {
/** Who decided what, when and why, from the log alone */
get: {
parameters: {
path: {
id: string;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["History"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/migrations/{id}/organizations": {
/** The migration's organizations, by id: where each is to go, and who serves it now */
get: {
parameters: {
query?: {
search?: string;
after?: string;
limit?: number;
};
path: {
id: string;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["OrganizationPage"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/pods": {
/** All Pods: when their agents were heard of last, and what they take part in */
get: {
parameters: {

};
responses: {
200: { content: { "application/json": components["schemas"]["Pods"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/pods/{id}": {
/** One Pod, with what its stores say of each migration */
get: {
parameters: {
path: {
id: string;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["PodDetails"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/routes": {
/** Organizations that a migration has moved, by id; the default Pod serves all others */
get: {
parameters: {
query?: {
after?: string;
limit?: number;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["RoutePage"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/routes/{organization}": {
/** The authoritative Pod of one organization */
get: {
parameters: {
path: {
organization: string;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["Route"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/events": {
/** The log's records after a sequence */
get: {
parameters: {
query?: {
after?: number;
limit?: number;
};
};
responses: {
200: { content: { "application/json": components["schemas"]["RecordPage"]; "text/event-stream": string; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
"/v1/plans": {
/** Accept a plan; its organizations are claimed, and nothing else is touched */
post: {
parameters: {
query?: {
dryRun?: string;
};
header?: {
"idempotency-key"?: string;
};
};
requestBody: { content: { "application/json": {
version?: 1;
migration: string;
kind?: "split" | "move";
source: string;
assignments: (({
pod: string;
organizations: ((string) | (number))[];
}) | ({
pod: string;
file: string;
}))[];
settings?: {
lagBounds?: {
postgresBytes?: number;
gitRepositories?: number;
objects?: number;
};
settlingMs?: number;
cutover?: {
approval?: "manual" | "auto";
deadlineMs?: number;
drainGraceMs?: number;
attempts?: number;
openWithinMs?: number;
readLeaseMs?: number;
};
walBudget?: {
bytes?: (number) | (null);
exceeded?: "abort" | "warn";
};
numbering?: "apart" | "shared";
acceptedDatabases?: (string)[];
retention?: {
forMs?: (number) | (null);
reverseReplication?: "replicated" | "none";
};
rateLimits?: {
baseBackupBytesPerSecond?: (number) | (null);
objectBytesPerSecond?: (number) | (null);
gitConcurrency?: number;
objectConcurrency?: number;
};
};
}; "application/yaml": {
version?: 1;
migration: string;
kind?: "split" | "move";
source: string;
assignments: (({
pod: string;
organizations: ((string) | (number))[];
}) | ({
pod: string;
file: string;
}))[];
settings?: {
lagBounds?: {
postgresBytes?: number;
gitRepositories?: number;
objects?: number;
};
settlingMs?: number;
cutover?: {
approval?: "manual" | "auto";
deadlineMs?: number;
drainGraceMs?: number;
attempts?: number;
openWithinMs?: number;
readLeaseMs?: number;
};
walBudget?: {
bytes?: (number) | (null);
exceeded?: "abort" | "warn";
};
numbering?: "apart" | "shared";
acceptedDatabases?: (string)[];
retention?: {
forMs?: (number) | (null);
reverseReplication?: "replicated" | "none";
};
rateLimits?: {
baseBackupBytesPerSecond?: (number) | (null);
objectBytesPerSecond?: (number) | (null);
gitConcurrency?: number;
objectConcurrency?: number;
};
};
}; } };
responses: {
201: { content: { "application/json": components["schemas"]["Accepted"]; } };
400: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
401: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
403: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
404: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
409: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
422: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
500: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
503: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
default: { content: { "application/problem+json": components["schemas"]["Problem"]; } };
};
};
};
}
