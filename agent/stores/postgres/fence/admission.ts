/**
 * The decisions inside PostgreSQL: may this Pod write that now? The table of phases is the one of ARCHITECTURE.md.
 *
 * What makes it safe (rule 4): a writer takes its migration's advisory lock shared, to the end of its transaction,
 * and reads the share after that; the fence takes the lock exclusively and flips the share before it lets go. So a
 * writer either is waited for or sees the flip. READ COMMITTED sees it because every query of a VOLATILE function has
 * a snapshot of its own; above that the snapshot may be older, which the generation tells: a sequence is read as it
 * is now, not as of the snapshot. On a difference the share is locked, which fails (40001) if it changed since.
 *
 * The lock is only ever tried: while a fence waits for writers in flight, newcomers are refused instead of queueing
 * behind it. So they cannot starve it, and one that already holds a row lock cannot keep a writer in flight waiting.
 */
import type { PodId } from "../../../../protocol/ids.ts";
import { APPLY_ROLE, literal, lockKeys, NOBODY } from "./names.ts";

interface SqlFunction {
  /** With arguments, as in CREATE FUNCTION. */
  readonly signature: string;
  readonly returns: string;
  readonly body: string;
  /** Called for every row, so without a search_path of its own: see guard-functions.ts. */
  readonly hot?: true;
}

/**
 * A setting of whoever changes rows of all organizations, as a deployment does that fills a new column: with `skip` rows that
 * are dormant here stay as they are instead of making the statement fail. Where they are served the same is done by itself,
 * and it flows back. An application has to be told its wrong Pod, so nothing of this is so without the setting.
 */
export const DORMANT_ROWS = "cleave.dormant_rows";

const SELF = "pg_catalog.current_setting('cluster_name')";

/** SQL: the share that was just read is to be written on this server. */
const HERE = `((now_in OPERATOR(pg_catalog.=) 'source' AND source OPERATOR(pg_catalog.=) ${SELF})
          OR (now_in OPERATOR(pg_catalog.=) 'opened' AND target OPERATOR(pg_catalog.=) ${SELF}))`;

/** Runs `statement` when the transaction's snapshot may be older than the last flip. */
const whenSnapshotIsOld = (statement: string) => `
  IF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.<>) 'read committed' THEN
    IF COALESCE((SELECT pod.generation FROM cleave.pod) OPERATOR(pg_catalog.<>) (SELECT flip.last_value FROM cleave.flip), true) THEN
      ${statement}
    END IF;
  END IF;`;

/** Refuses, naming the right Pod: alone in the DETAIL, so that a program can use it. */
const refuseElsewhere: SqlFunction = {
  signature: "cleave.refuse_elsewhere(subject text, right_pod text)",
  returns: "void",
  body: `
BEGIN
  PERFORM cleave.refuse_unknown_identity();
  RAISE EXCEPTION USING ERRCODE = 'CL421', MESSAGE = subject || ' belongs to another Pod', DETAIL = right_pod,
    HINT = 'Send the write to the Pod that the detail names. A deployment that changes rows of all organizations leaves out those that are not served here: SET ${DORMANT_ROWS} = skip.';
END`,
};

const refuseForNow: SqlFunction = {
  signature: "cleave.refuse_for_now(subject text)",
  returns: "void",
  body: `
BEGIN
  PERFORM cleave.refuse_unknown_identity();
  RAISE EXCEPTION USING ERRCODE = 'CL503', MESSAGE = subject || ' is read-only for a moment',
    HINT = 'Try again.';
END`,
};

/** A clone that was not started under its own name, or under one that the cluster does not have. */
const refuseUnknownIdentity: SqlFunction = {
  signature: "cleave.refuse_unknown_identity()",
  returns: "void",
  body: `
DECLARE
  self text := ${SELF};
BEGIN
  IF self = '' OR NOT EXISTS (SELECT FROM cleave.member WHERE member.pod_id = self) THEN
    RAISE EXCEPTION USING ERRCODE = 'CL503',
      MESSAGE = 'POD_IDENTITY_UNKNOWN: cluster_name is ' || pg_catalog.quote_literal(self)
        || ', which is no Pod of this cluster, so all writes are refused',
      HINT = 'Start PostgreSQL with cluster_name set to the Pod''s id.';
  END IF;
END`,
};

/**
 * One organization's row. The hot path: without subtransactions, one look-up where nothing is assigned, two where
 * something is. The default Pod is written into it, and the lock is taken by the query that finds the route, because
 * each further query would cost as much as the look-up itself. False is a yes too: the row's organization is being
 * moved, or flows back to where it came from, and the writer has to note which row it changes. NULL, where the row is there
 * already (`present`): it is dormant and stays as it is, for the writer leaves such rows out (`DORMANT_ROWS`).
 */
const admit = (defaultPodId: PodId): SqlFunction => ({
  signature: "cleave.admit(organization pg_catalog.text, relation pg_catalog.text, present pg_catalog.bool)",
  returns: "pg_catalog.bool",
  hot: true,
  body: `
DECLARE
  base_pod pg_catalog.text;
  migration pg_catalog.text;
  target pg_catalog.text;
  locked pg_catalog.bool;
  source pg_catalog.text;
  now_in pg_catalog.text;
  noting pg_catalog.bool;
BEGIN
  SELECT route.pod_id, route.migration_id, route.target_pod_id,
      pg_catalog.pg_try_advisory_xact_lock_shared(${lockKeys("route.migration_id")})
    INTO base_pod, migration, target, locked
    FROM cleave.route WHERE route.organization_id OPERATOR(pg_catalog.=) organization;
  IF locked THEN
    -- A query of its own, after the lock: in READ COMMITTED it sees what the fence before it has flipped.
    SELECT share.source_pod_id, share.phase, CASE WHEN share.phase OPERATOR(pg_catalog.=) 'opened' THEN share.back ELSE share.logical END
      INTO source, now_in, noting FROM cleave.share
      WHERE share.migration_id OPERATOR(pg_catalog.=) migration AND share.target_pod_id OPERATOR(pg_catalog.=) target;
    IF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.=) 'read committed'
        AND ${HERE} THEN
      RETURN NOT noting;
    END IF;
${whenSnapshotIsOld("PERFORM FROM cleave.share WHERE share.migration_id OPERATOR(pg_catalog.=) migration AND share.target_pod_id OPERATOR(pg_catalog.=) target FOR SHARE;")}
    IF ${HERE} THEN
      RETURN NOT noting;
    END IF;
    RETURN cleave.refuse(organization, now_in, source, target, present);
  ELSIF migration IS NULL AND organization IS NOT NULL
      AND COALESCE(base_pod, ${literal(defaultPodId)}) OPERATOR(pg_catalog.=) ${SELF} THEN
    RETURN true;
  ELSIF organization IS NULL THEN
    RETURN cleave.admit_unknown(relation);
  ELSIF migration IS NULL THEN
    RETURN cleave.refuse(organization, 'opened', NULL, COALESCE(base_pod, ${literal(defaultPodId)}), present);
  END IF;
  RETURN cleave.refuse(organization, NULL, NULL, NULL, false);
END`,
});

/**
 * The organization is served by another Pod, and nothing is on its way. Where it is, the row is nobody's to change here but
 * the copy's; the lock keeps it so to the end of the transaction.
 */
const isDormant = (defaultPodId: PodId): SqlFunction => ({
  signature: "cleave.is_dormant(organization text)",
  returns: "boolean",
  body: `
DECLARE
  base_pod text;
  migration text;
  target text;
  locked boolean;
  dormant boolean;
BEGIN
  SELECT route.pod_id, route.migration_id, route.target_pod_id, pg_catalog.pg_try_advisory_xact_lock_shared(${lockKeys("route.migration_id")})
    INTO base_pod, migration, target, locked FROM cleave.route WHERE route.organization_id = organization;
  IF migration IS NULL THEN
    RETURN organization IS NOT NULL AND COALESCE(base_pod, ${literal(defaultPodId)}) <> ${SELF};
  ELSIF NOT locked THEN
    RETURN false;
  END IF;
${whenSnapshotIsOld("PERFORM FROM cleave.share WHERE share.migration_id = migration AND share.target_pod_id = target FOR SHARE;")}
  SELECT (share.phase = 'opened' AND share.target_pod_id <> ${SELF}) OR (share.phase = 'source' AND share.source_pod_id <> ${SELF})
    INTO dormant FROM cleave.share WHERE share.migration_id = migration AND share.target_pod_id = target;
  RETURN COALESCE(dormant, false);
END`,
});

const admitUnknown: SqlFunction = {
  signature: "cleave.admit_unknown(relation text)",
  returns: "boolean",
  body: `\nBEGIN\n  RETURN cleave.admit_for_all('a row of ' || relation || ' whose owner is unknown');\nEND`,
};

/** What a write that was not admitted is answered; a phase that is NULL is a lock that a fence holds or waits for. */
const refuse: SqlFunction = {
  signature: "cleave.refuse(organization text, phase text, source text, target text, present boolean)",
  returns: "boolean",
  body: `
DECLARE
  subject text := CASE organization WHEN ${literal(NOBODY)} THEN 'a row that belongs to no organization' ELSE 'organization ' || organization END;
BEGIN
  IF present AND pg_catalog.current_setting('${DORMANT_ROWS}', true) = 'skip' THEN
    IF cleave.is_dormant(organization) THEN
      RETURN NULL;
    END IF;
    -- Fenced or opening: it may still come to be served here, and what was left out would be missing then.
    PERFORM cleave.refuse_for_now(subject);
  END IF;
  IF phase IN ('transferred', 'opened') AND target <> ${SELF} THEN
    PERFORM cleave.refuse_elsewhere(subject, target);
  ELSIF phase IN ('source', 'fenced') AND source <> ${SELF} THEN
    PERFORM cleave.refuse_elsewhere(subject, source);
  END IF;
  -- Fenced, opening, or a share that is being released at this moment.
  PERFORM cleave.refuse_for_now(subject);
  RETURN false;
END`,
};

/**
 * A write that may concern every organization (TRUNCATE, a row whose owner is unknown). It is let through where it
 * could not do harm: on the default Pod while no other Pod has, or is getting, any organization; and then every fence
 * waits for it.
 */
const admitForAll: SqlFunction = {
  signature: "cleave.admit_for_all(subject text)",
  returns: "boolean",
  body: `
DECLARE
  self text := ${SELF};
  default_pod text;
  elsewhere record;
BEGIN
  SELECT pod.default_pod_id INTO default_pod FROM cleave.pod;
  IF default_pod IS DISTINCT FROM self THEN
    PERFORM cleave.refuse_elsewhere(subject, default_pod);
  END IF;
  PERFORM cleave.lock_all(subject);
  SELECT share.target_pod_id, share.phase INTO elsewhere FROM cleave.share
    WHERE NOT (share.phase = 'source' AND share.source_pod_id = self)
    ORDER BY share.phase <> 'fenced', share.target_pod_id LIMIT 1;
  IF NOT FOUND THEN
    RETURN true;
  ELSIF elsewhere.phase = 'fenced' THEN
    PERFORM cleave.refuse_for_now(subject);
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'CL421', MESSAGE = subject || ' may belong to another Pod',
    DETAIL = elsewhere.target_pod_id,
    HINT = 'While organizations live on several Pods, a write has to say whose it is: see ownership.yaml.';
END`,
};

/** Joins the writers that every fence waits for, and makes an old snapshot fail. */
const lockAll: SqlFunction = {
  signature: "cleave.lock_all(subject text)",
  returns: "void",
  body: `
DECLARE
  migration text;
BEGIN
  FOR migration IN SELECT DISTINCT share.migration_id FROM cleave.share ORDER BY 1 LOOP
    IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(${lockKeys("migration")}) THEN
      PERFORM cleave.refuse_for_now(subject);
    END IF;
  END LOOP;
${whenSnapshotIsOld("PERFORM FROM cleave.share FOR SHARE;")}
END`,
};

/** Of the whole cluster: the default Pod's alone, in every phase. */
const admitClusterWide: SqlFunction = {
  signature: "cleave.admit_cluster_wide(relation text)",
  returns: "boolean",
  body: `
DECLARE
  default_pod text;
BEGIN
  SELECT pod.default_pod_id INTO default_pod FROM cleave.pod;
  IF default_pod = ${SELF} THEN
    RETURN true;
  END IF;
  PERFORM cleave.refuse_elsewhere(relation, default_pod);
  RETURN false;
END`,
};

/** Shared by content: added wherever organizations are served; changed and removed on the default Pod alone. */
const admitShared: SqlFunction = {
  signature: "cleave.admit_shared(relation text)",
  returns: "boolean",
  body: `
DECLARE
  self text := ${SELF};
BEGIN
  IF EXISTS (SELECT FROM cleave.pod WHERE pod.default_pod_id = self) OR cleave.serves_something() THEN
    RETURN true;
  END IF;
  PERFORM cleave.refuse_for_now(relation);
  RETURN false;
END`,
};

const servesSomething: SqlFunction = {
  signature: "cleave.serves_something()",
  returns: "boolean",
  body: `
BEGIN
  RETURN EXISTS (SELECT FROM cleave.share
    WHERE (share.phase = 'opened' AND share.target_pod_id = ${SELF})
       OR (share.phase = 'source' AND share.source_pod_id = ${SELF}));
END`,
};

/** A move's target is altered as its source is, by whoever deploys; and so is the copy that changes flow back to. */
const followsRows: SqlFunction = {
  signature: "cleave.follows_rows()",
  returns: "boolean",
  body: `
BEGIN
  RETURN EXISTS (SELECT FROM cleave.share WHERE (share.logical AND share.phase = 'source' AND share.target_pod_id = ${SELF})
    OR (share.back AND share.phase = 'opened' AND share.source_pod_id = ${SELF}));
END`,
};

/**
 * DDL concerns everybody: a fence waits for it, and while anything is fenced (or this Pod opens) there is none. Cleave's
 * own role makes publications, which are no part of the schema, on Pods that do not serve yet.
 */
const admitDdl: SqlFunction = {
  signature: "cleave.admit_ddl(command text)",
  returns: "boolean",
  body: `
BEGIN
  IF SESSION_USER = ${literal(APPLY_ROLE)} THEN
    RETURN true;
  END IF;
  PERFORM cleave.lock_all(command);
  IF EXISTS (SELECT FROM cleave.share WHERE share.phase = 'fenced') THEN
    PERFORM cleave.refuse_for_now('the schema (' || command || ')');
  ELSIF EXISTS (SELECT FROM cleave.pod WHERE pod.default_pod_id = ${SELF}) OR cleave.serves_something() OR cleave.follows_rows() THEN
    RETURN true;
  END IF;
  PERFORM cleave.refuse_for_now('the schema (' || command || ')');
  RETURN false;
END`,
};

export function admissionFunctions(defaultPodId: PodId): readonly SqlFunction[] {
  return [
    refuseUnknownIdentity,
    refuseElsewhere,
    refuseForNow,
    lockAll,
    admitForAll,
    admitUnknown,
    refuse,
    admit(defaultPodId),
    isDormant(defaultPodId),
    admitClusterWide,
    servesSomething,
    followsRows,
    admitShared,
    admitDdl,
  ];
}
