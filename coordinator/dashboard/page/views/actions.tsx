import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { MigrationStatus } from "../../../api/ports.ts";
import { type Action, actionsOf, bodyOf, type Filled } from "../model/commands.ts";
import { announce } from "../state/announcements.ts";
import { askJson, newKey, Refused } from "../state/client.ts";
import { hrefOf } from "../state/route.ts";

/** What may be done next; each is confirmed, and what ends something asks for the migration's id. */
export function Actions({ migration }: { migration: MigrationStatus }) {
  // Counted, because a dialog says that it was closed a moment later: by then the next one may be open.
  const [open, setOpen] = useState<{ readonly action: Action; readonly opening: number } | null>(null);
  const openings = useRef(0);
  const actions = actionsOf(migration.possibleCommands);
  if (actions.length === 0 && open === null) return null;
  return (
    <section aria-labelledby="actions-title" class="actions">
      <h2 id="actions-title">What you may do</h2>
      <p class="buttons">
        {actions.map((action) => (
          <button
            key={action.name}
            type="button"
            class={
              action.dangerous ? "danger" : action.command === migration.possibleCommands[0] ? "primary" : ""
            }
            onClick={() => {
              openings.current += 1;
              setOpen({ action, opening: openings.current });
            }}
          >
            {action.label}…
          </button>
        ))}
      </p>
      {open !== null && (
        <Confirmation
          key={open.opening}
          action={open.action}
          migration={migration}
          onClose={() => setOpen((now) => (now?.opening === open.opening ? null : now))}
        />
      )}
    </section>
  );
}

interface ConfirmationProps {
  readonly action: Action;
  readonly migration: MigrationStatus;
  readonly onClose: () => void;
}

function Confirmation({ action, migration, onClose }: ConfirmationProps) {
  const { migrationId } = migration;
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const pods = migration.pods.filter((pod) => pod.role === "target" && pod.share === action.pods);
  const [typed, setTyped] = useState("");
  const [filled, setFilled] = useState<Filled>({
    reason: "",
    podId: pods[0]?.podId ?? "",
    organizations: "",
    ticked: false,
  });
  const fill = (change: Partial<Filled>) => setFilled((before) => ({ ...before, ...change }));
  const [sending, setSending] = useState(false);
  const [refused, setRefused] = useState<Refused | null>(null);
  const keys = useRef(new Map<string, string>());
  // Before anything else is typed: what follows the key that opened it is meant for it.
  useLayoutEffect(() => dialog.current?.showModal(), []);
  const possible = migration.possibleCommands.includes(action.command);
  const complete =
    (!action.dangerous || typed === migrationId) &&
    (action.reasonAs === null || filled.reason.trim() !== "") &&
    (action.pods === null || pods.some(({ podId }) => podId === filled.podId));

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (!possible || !complete || sending) return;
    setSending(true);
    setRefused(null);
    const body = bodyOf(action, filled);
    // Sent again after a lost answer it is the same decision; another one once something was changed.
    const content = JSON.stringify(body);
    const key = keys.current.get(content) ?? newKey();
    keys.current.set(content, key);
    try {
      const path = `/v1/migrations/${migrationId}/${action.path}`;
      const accepted = await askJson<{ migrationId: string }>(path, { method: "POST", body, key });
      announce(`${action.label}: done.`);
      dialog.current?.close();
      if (accepted.migrationId !== migrationId) location.hash = hrefOf(accepted.migrationId);
    } catch (error) {
      setRefused(error instanceof Refused ? error : new Refused(0, "INTERNAL", String(error), ""));
      setSending(false);
    }
  };

  return (
    <dialog ref={dialog} aria-labelledby={`${id}-title`} aria-describedby={`${id}-text`} onClose={onClose}>
      <form method="dialog" onSubmit={(event) => void submit(event)}>
        <h2 id={`${id}-title`}>
          {action.label}: {migrationId}
        </h2>
        <p id={`${id}-text`}>{action.consequence}</p>
        {action.pods !== null && (
          <label class="field">
            {action.pods === "closed" ? "Pod that has not opened" : "Pod that has the organizations"}
            <select value={filled.podId} onChange={(event) => fill({ podId: event.currentTarget.value })}>
              {pods.map(({ podId }) => (
                <option key={podId}>{podId}</option>
              ))}
            </select>
          </label>
        )}
        {action.organizations && (
          <label class="field">
            Organizations, one a line; none: all that the Pod took over and still has
            <textarea
              rows={3}
              spellcheck={false}
              value={filled.organizations}
              onInput={(event) => fill({ organizations: event.currentTarget.value })}
            />
          </label>
        )}
        {action.reasonAs !== null && (
          <label class="field">
            Reason, for the log
            <input
              value={filled.reason}
              maxLength={2_000}
              required
              onInput={(event) => fill({ reason: event.currentTarget.value })}
            />
          </label>
        )}
        {action.option !== null && (
          <label class="tick">
            <input
              type="checkbox"
              checked={filled.ticked}
              onChange={(event) => fill({ ticked: event.currentTarget.checked })}
            />{" "}
            {action.option.label}
          </label>
        )}
        {action.dangerous && (
          <label class="field">
            Type <strong>{migrationId}</strong> to confirm
            <input
              value={typed}
              autocomplete="off"
              autocapitalize="none"
              spellcheck={false}
              onInput={(event) => setTyped(event.currentTarget.value)}
            />
          </label>
        )}
        {!possible && (
          <p class="trouble" role="alert">
            It is {migration.lifecycle} now: this is not possible any more.
          </p>
        )}
        {refused !== null && (
          <p class="trouble" role="alert">
            <strong>{refused.code}</strong>: {refused.message}. {refused.nextStep}
          </p>
        )}
        <p class="buttons">
          <button
            type="submit"
            class={action.dangerous ? "danger" : "primary"}
            disabled={!possible || !complete || sending}
          >
            {action.label}
          </button>
          <button type="button" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
        </p>
      </form>
    </dialog>
  );
}
